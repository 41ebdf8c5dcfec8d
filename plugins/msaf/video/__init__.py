"""MSAF on video: emotions from face and voice (RAVDESS), actions from RGB and skeleton (NTU)."""
