"""MSAF: multimodal split attention fusion (Su, Hu, Li, Cao; arXiv 2012.07175)."""
