"""MMTM: multimodal transfer module (Vaezi Joze et al., CVPR 2020)."""
