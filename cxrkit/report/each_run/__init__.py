"""Documents of single runs: curves, calibration, operating points, subgroups, training, provenance, protocol."""
