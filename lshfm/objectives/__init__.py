"""What a training step optimises: an objective maps a batch to named losses."""
