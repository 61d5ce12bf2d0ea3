"""Evaluators: predictions and records in, scores with intervals out. No torch here."""
