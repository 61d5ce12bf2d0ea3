"""Preparing: the raw download becomes shards, once (stage.py); and shards are read again, against their checksums.

Importing this package loads nothing else, so a worker process that needs one module of it starts fast.
"""
