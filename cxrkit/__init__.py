"""cxrkit: a benchmark toolkit for multi-label chest X-ray classification on NIH ChestX-ray14."""

__version__ = "0.1.0"
