"""Objectives: what a training step optimises. An objective maps a batch to named losses."""
