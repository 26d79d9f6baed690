"""Data sets: readers of several formats, stores of decoded pixels, augmentation, batches."""
