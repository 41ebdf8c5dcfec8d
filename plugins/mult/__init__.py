"""MulT: the multimodal transformer (Tsai et al., ACL 2019)."""
