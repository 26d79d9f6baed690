"""Files: atomic writes, checkpoints read as data that never runs, and safe names."""
