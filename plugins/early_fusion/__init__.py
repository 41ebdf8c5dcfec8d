"""Early fusion: features of all modalities side by side, then one encoder."""
