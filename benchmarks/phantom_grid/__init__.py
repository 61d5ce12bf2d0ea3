"""The paper's Table 3 at a small size on phantoms: see README.md beside this file."""
