"""Late fusion: one encoder a modality, then their vectors or their outputs together."""
