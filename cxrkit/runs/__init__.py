"""A run: its folder, its config, its checkpoints, predictions and scores. Each file has its reader and writer here."""
