"""Data: the batch type, sequences in memory, the sources that fill them, and their checks."""
