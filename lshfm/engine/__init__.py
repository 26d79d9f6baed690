"""The training loop, the same for all methods and tasks, and its parts: step, state, schedule, journal, evaluation."""
