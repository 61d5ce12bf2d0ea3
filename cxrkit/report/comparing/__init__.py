"""Models against each other: contenders, the contests they meet in, and the tables of their differences."""
