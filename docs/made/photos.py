"""examples/photos: pictures of the embedded test split, for the tour of the README (python -m docs.made.photos)."""

from pathlib import Path

from PIL import Image

from lshfm.datasets.shapes import Shapes

FOLDER = Path(__file__).parents[2] / "examples/photos"
NUM, SIZE = 8, 64


def photos() -> dict[str, Image.Image]:
    """The pictures by the names of their files."""
    images = Shapes().split("test").images
    return {f"{number}.png": Image.fromarray(images.pixels(number, SIZE)) for number in range(NUM)}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in photos().items():
        picture.save(FOLDER / name, optimize=True)
