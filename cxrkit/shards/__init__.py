"""Shards: the prepared images on the disk. One file (file.py), their index (index.py), all of a folder (store.py)."""
