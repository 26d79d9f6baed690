"""How a picture of any shape becomes a square."""

from PIL import Image

FITS = ("stretch", "crop")
CROP_OF = 256 / 224  # short side of what the centre is cut from, in sides of the result, as published


def fitted(image: Image.Image, size: int, fit: str) -> Image.Image:
    """A picture as size x size pixels: all of it stretched, or the centre (`fit` "crop"); antialiased, bilinear."""
    return centred(image, size) if fit == "crop" else image.resize((size, size), Image.Resampling.BILINEAR)


def centred(image: Image.Image, size: int) -> Image.Image:
    """The middle size x size of a picture whose short side is resized to 256/224 of `size`."""
    short = round(size * CROP_OF)
    factor = short / min(image.size)
    width, height = (max(short, int(side * factor)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def shrunk_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height of a picture whose short side is at most `short`, its shape kept; 0: as it is."""
    if not short or min(size) <= short:
        return size
    width, height = (max(short, int(side * short / min(size))) for side in size)
    return width, height


def shrunk(image: Image.Image, short: int) -> Image.Image:
    """A picture whose short side is at most `short`; antialiased, bilinear."""
    size = shrunk_size(image.size, short)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
