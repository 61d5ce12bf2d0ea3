"""The systems that the paper compares with, trained at a small size on phantoms: see README.md beside this file."""
