"""Data sets: each a function from a raw folder to `cxrkit.contracts.Records`, registered by name."""
