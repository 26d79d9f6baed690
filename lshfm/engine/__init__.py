"""The one training loop and what surrounds it: schedule, state, run folder, evaluation."""
