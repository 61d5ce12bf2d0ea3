"""Data sets: from a raw folder to records; and splits, which are a property of a data set (splits.py)."""
