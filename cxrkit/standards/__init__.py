"""Documents that journals and hubs ask for, filled from a run: `write_standards` writes them all.

What only the author knows is marked "author"; nothing is invented.
"""

from cxrkit.standards.writing import WrittenStandards, write_standards

__all__ = ["WrittenStandards", "write_standards"]
