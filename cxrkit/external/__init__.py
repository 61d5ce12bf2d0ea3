"""External validity: a trained network on the images of a hospital that it has never seen."""
