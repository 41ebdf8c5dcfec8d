"""MMLatch: bottom-up top-down fusion (Paraskevopoulos et al., ICASSP 2022)."""
