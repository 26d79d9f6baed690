"""Photos to measure with: seeded pictures of the size, texture and compression that photos have, and their labels."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 20
QUALITY = 90


def photo(seed: int, width: int = 500, height: int = 375) -> Image.Image:
    """A picture with shades, edges and grain, which JPEG makes as large as a photo (about 3 bits a pixel)."""
    random = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 90), (9, 45), (30, 25), (110, 16)):  # as natural scenes: less of what is finer
        coarse = random.normal(0, 1, (cells * 3 // 4 + 1, cells + 1, 3)).astype(np.float32)
        layers += strength * np.stack([_enlarged(coarse[..., c], width, height) for c in range(3)], -1)
    layers += random.normal(0, 5, (height, width, 1))
    for _ in range(6):
        left, top = random.integers(0, width), random.integers(0, height)
        layers[top : top + height // 4, left : left + width // 4] += random.normal(0, 40, 3)
    return Image.fromarray((layers + 115).clip(0, 255).astype(np.uint8))


def _enlarged(values: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def make_photos(folder: Path, num: int, *, distinct: int = 64) -> Path:
    """A manifest of `num` pictures in `folder`, of which `distinct` are drawn and the others are copies of those.

    Half as many, at most 256, are listed to be tested on. What is there already stays.
    """
    if (folder / "done").is_file():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random, drawn = np.random.default_rng(0), list[bytes]()
    for number in range(num):
        path = folder / f"images/{number:06d}.jpg"
        if number < distinct:
            photo(number).save(path, quality=QUALITY)
            drawn.append(path.read_bytes())
        else:
            path.write_bytes(drawn[number % distinct])
    rows = [(f"images/{n:06d}.jpg", labels_of(random, n)) for n in range(num)]
    for name, part in (("train", rows), ("test", rows[: min(256, max(num // 2, 1))])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "labels"), *part])
    (folder / "classes.txt").write_text("".join(f"class{c:02d}\n" for c in range(CLASSES)))
    (folder / "done").touch()
    return folder


def labels_of(random: np.random.Generator, number: int) -> str:
    """One to three classes; every class comes."""
    chosen = {number % CLASSES, *random.integers(0, CLASSES, 2).tolist()}
    return ";".join(f"class{c:02d}" for c in sorted(chosen)[: random.integers(1, 4)])
