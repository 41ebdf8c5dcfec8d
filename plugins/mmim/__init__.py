"""MMIM: hierarchical maximisation of mutual information (Han et al., EMNLP 2021)."""
