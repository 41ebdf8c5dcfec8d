"""How runs are shown: progress while they train, a table when they are done."""
