"""A trained network for other programs: `describing` writes down what it eats, `exporting` writes and checks it."""
