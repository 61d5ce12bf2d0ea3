"""`synthetic`: phantom films in NIH's own layout, drawn on the spot."""
