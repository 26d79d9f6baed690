"""Data sets: readers, decoded pixels, augmentation, batches."""
