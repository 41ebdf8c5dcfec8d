"""Evaluation: one protocol, named metric sets, and intervals that say how sure a number is."""
