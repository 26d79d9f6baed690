"""lshfm: distil image models by mimicking features with locality-sensitive hashing (arXiv 2011.01424)."""

__version__ = "0.1.0"
