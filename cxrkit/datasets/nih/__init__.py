"""NIH ChestX-ray14: from the raw download, in the layouts that people have, to records."""
