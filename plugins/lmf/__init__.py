"""LMF: the tensor fusion at low rank (Liu et al., ACL 2018)."""
