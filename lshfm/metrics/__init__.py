"""Metrics: how good predictions and features are. Arrays of numpy in, plain numbers out."""
