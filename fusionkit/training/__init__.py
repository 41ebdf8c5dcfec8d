"""The training loop, its options, checkpoints and run folders."""
