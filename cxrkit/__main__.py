"""`python -m cxrkit`."""

from cxrkit.cli import main

main()
