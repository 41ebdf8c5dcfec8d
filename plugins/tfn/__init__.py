"""TFN: outer product of all modalities (Zadeh et al., EMNLP 2017)."""
