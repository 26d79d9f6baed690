"""Trained networks put to use: loaded from any file that holds one, predicting on pictures, exported."""
