"""Runs: their name and folder, training, checkpoints to resume from and finished ones to use, records of results."""
