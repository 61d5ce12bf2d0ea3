"""A model, a loss, a trainer, an evaluator and a data set for cxrkit: one module each, found by entry points."""
