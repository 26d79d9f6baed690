"""A data set of one's own: noisy pictures of one to five stripes; the label is their number."""

import numpy as np

from lshfm.datasets.in_memory import ArrayImages
from lshfm.datasets.split import Split

CLASSES = ("one", "two", "three", "four", "five")


class Stripes:
    """Made when asked for, the same on every machine; the splits are "train" and "test"."""

    def __init__(self, num_train: int, num_eval: int) -> None:
        self.counts = {"train": num_train, "test": num_eval}

    def split(self, name: str) -> Split:
        """Labels int8 (n, C): +1 for the class of a picture, -1 for the others."""
        number = self.counts[name]
        random = np.random.default_rng(list(self.counts).index(name))
        right = random.integers(0, len(CLASSES), number)
        labels = np.where(np.arange(len(CLASSES)) == right[:, None], 1, -1).astype(np.int8)
        ids = tuple(f"{name}{row}" for row in range(number))
        return Split(name, CLASSES, ids, labels, ArrayImages(_draw(right + 1, random), "drawn stripes"))


def _draw(stripes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """uint8 (n, 32, 32, 3): so many bright columns each, before noise."""
    pictures = random.integers(0, 120, (len(stripes), 32, 32, 3), np.uint8)
    for picture, number in zip(pictures, stripes, strict=True):
        picture[:, 3 : 3 + 6 * number : 6] += 130
    return pictures
