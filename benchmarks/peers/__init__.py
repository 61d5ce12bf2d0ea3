"""What people use now, one file per peer, each the way its own documentation does it. See install.py.

Each has functions that return a stopwatch.Pass, to be called in a contender's process. They import cxrkit nowhere, so
they run in an interpreter of their own. All deliver shuffled batches of augmented uint8 images, not normalised, and
their 15 labels: area 0.08 to 1, aspect 3/4 to 4/3, a rotation of up to 7 degrees, a flip; what a peer lacks is said
beside its result.
"""
