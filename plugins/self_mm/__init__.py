"""Self-MM: unimodal labels made while training (Yu et al., AAAI 2021)."""
