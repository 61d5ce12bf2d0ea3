"""Data sets of other hospitals, read from their published tables: for the external validity of a trained network.

All of this is written after the data sets' documentation and public code that reads them, and is untested on the real
data sets; data_manifests/hospitals.toml has the sources.
"""
