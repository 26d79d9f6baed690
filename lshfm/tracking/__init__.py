"""Trackers: TensorBoard, Weights & Biases, MLflow or a file follow a run's lines; none of them can end the run."""
