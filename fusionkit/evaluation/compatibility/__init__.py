"""The official evaluation codes of published methods, defects included, one file each."""
