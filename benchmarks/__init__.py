"""How fast cxrkit is, beside what people use now; see benchmarks/README.md. Not part of the installed package."""
