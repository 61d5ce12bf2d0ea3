"""The ground floor: errors, files, names, contracts. Nothing here knows of shards, networks or tables."""
