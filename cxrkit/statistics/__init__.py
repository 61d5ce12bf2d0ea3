"""Statistics: exact metrics and their intervals. Pure functions of arrays, numpy only."""
