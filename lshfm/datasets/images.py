"""Pictures in files: decoding to RGB, refusing what is missing or broken, digests."""

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from lshfm.datasets.checks import first_five
from lshfm.datasets.fitting import fitted
from lshfm.datasets.paths import absolute, suffix, texts
from lshfm.datasets.split import BrokenImage, Pixels, Split
from lshfm.errors import InputError, parameter

Statuses = NDArray[np.int64]

MOST_PIXELS = 2**28  # 16384 x 16384: a picture of so many takes 1 GiB while it is decoded
# Resizing takes 16 bytes for each column or row of the original: a line of 10^8 pixels would fill the memory.
_LONGEST_SIDE = 2**20
BACKGROUND = (255, 255, 255)  # what shows through where a picture is transparent
_AS_PUBLISHED = (".jpg", ".jpeg")
_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class FileImages:
    """One file a picture, opened only when asked for: a missing one is a broken image like others.

    upright: pictures are turned as their EXIF orientation says, as viewers show them. Without it what is called .jpg
    is decoded to the published pixels: as it lies, transparency ignored. Other transparent pictures lie on BACKGROUND.
    known: the files' `statuses`, where they were asked for already.
    """

    paths: Sequence[Path]
    upright: bool = True
    fit: str = "stretch"
    known: Statuses | None = field(default=None, compare=False, repr=False)
    is_listed: ClassVar[bool] = False  # whether the paths were found on the disk a moment ago

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def pixels(self, index: int, size: int) -> Pixels:
        """RGB, by Pillow's antialiased bilinear resize to size x size, as `fit` says."""
        return np.array(fitted(self._decode(index), size, self.fit))

    def picture(self, index: int) -> Image.Image:
        """RGB in its own size. Raises BrokenImage."""
        return self._decode(index)

    def own_size(self, index: int) -> tuple[int, int] | None:
        """Width and height of a picture, without decoding it; None for what is none."""
        return size_of(self.paths[index], upright=self.upright)

    def inspect(self, index: int) -> tuple[tuple[int, int], str]:
        """(width, height) of a picture that can be decoded, and the SHA-256 of its file. Raises BrokenImage."""
        size = self._decode(index).size
        with self.paths[index].open("rb") as file:
            return size, hashlib.file_digest(file, "sha256").hexdigest()

    def as_now(self) -> "FileImages":
        """The same, with all files' statuses as they are now: those of 80,000 are not asked for at every use."""
        return replace(self, known=self.statuses)

    def signature(self) -> str:
        """Hex digest of every file's absolute path, byte size and time of change, and of how they are decoded."""
        return self._signed() if self.known is None else self._known_signature

    def _signed(self) -> str:
        names = texts(self.paths)
        both = zip(names, self.statuses.tolist(), strict=True)
        stats: list[object] = [(absolute(name), *status) for name, status in both]
        made = [] if all(map(self._is_as_published, names)) else [self.upright, BACKGROUND]
        return digest([*stats, *made, *([] if self.fit == "stretch" else [self.fit])])

    @cached_property
    def _known_signature(self) -> str:
        return self._signed()

    def fingerprint(self) -> str:
        """Hex digest of the files' byte sizes: all that can be known of their content without reading it."""
        return digest(self.statuses[:, 0].tolist())

    @property
    def statuses(self) -> Statuses:
        """Every file's byte size and time of change in ns, (-1, 0) where there is none, (n, 2)."""
        if self.known is not None:
            return self.known
        return np.array([_size_and_time(path) for path in texts(self.paths)], np.int64).reshape(-1, 2)

    def _is_as_published(self, path: str) -> bool:
        return not self.upright and suffix(path) in _AS_PUBLISHED

    def _decode(self, index: int) -> Image.Image:
        where, path = self.where(index), self.paths[index]
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
                raise BrokenImage(where, "is not a regular file")
            with warnings.catch_warnings(action="ignore"), _limit(MOST_PIXELS), Image.open(path) as image:
                if fault := _unusable(image):
                    raise BrokenImage(where, fault)
                if self._is_as_published(str(path)):
                    return _to_rgb(image)
                return _turned(_to_rgb(image, BACKGROUND), image if self.upright else None)
        except BrokenImage:
            raise
        except UnidentifiedImageError as error:
            empty = _size_and_time(path)[0] == 0
            raise BrokenImage(where, "is empty" if empty else "is not an image that Pillow reads") from error
        except Image.DecompressionBombError as error:
            raise BrokenImage(
                where, f"has over {MOST_PIXELS / 1e6:.0f} million pixels, the most that are read: save it smaller"
            ) from error
        except OSError as error:
            raise BrokenImage(where, f"cannot be read: {error.strerror or error}") from error
        except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
            raise BrokenImage(where, f"is damaged: {error or type(error).__name__}") from error


def _unusable(image: Image.Image) -> str | None:
    """Why an image is refused before it is decoded, as a clause that continues its name."""
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        return "is PostScript, a program that is not run"
    if max(image.size) > _LONGEST_SIDE:
        return f"is {image.width} x {image.height} pixels: the longest side may have {_LONGEST_SIDE}"
    if image.mode == "F" or (image.mode == "I" and not _is_16_bit_grey(image)):
        return "holds 32-bit values, and which of them are black and white is not known: save it with 8 or 16 bits"
    return None


def _is_16_bit_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # which fills 16 bits


def _to_rgb(image: Image.Image, background: tuple[int, int, int] | None = None) -> Image.Image:
    """RGB as Pillow converts, but 16-bit grey by its high byte, as 16-bit colour is, instead of clipped at 255.

    background: what transparent pictures are laid on; without it what lies hidden in them is shown.
    """
    image.load()
    if _is_16_bit_grey(image):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if background and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, background)
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _turned(pixels: Image.Image, image: Image.Image | None) -> Image.Image:
    """Pixels turned as their picture's EXIF orientation says; damaged EXIF says nothing."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1)) if image else None
    except Exception:  # noqa: BLE001 - Pillow's parser raises nearly anything
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


@contextmanager
def _limit(most: int) -> Iterator[None]:
    """Within the block, Pillow refuses pictures of more pixels, whatever it was set to before."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most // 2  # beyond which it warns, and refuses the double
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def pixels_of(image: Image.Image, size: int, fit: str = "stretch") -> Pixels:
    """An opened picture as `FileImages.pixels` gives a file's, whose reader closes it. Raises BrokenImage."""
    return np.array(fitted(upright_rgb(image), size, fit))


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened picture as `FileImages.picture` gives a file's. Raises BrokenImage."""
    if fault := _unusable(image):
        raise BrokenImage("the image", fault)
    return _turned(_to_rgb(image, BACKGROUND), image)


def as_now(split: Split) -> Split:
    """The split, with the statuses of its files as they are now; one of listed folders, whose times count, as it is."""
    images = split.images
    return replace(split, images=images.as_now()) if type(images) is FileImages else split


def size_of(path: Path, *, upright: bool) -> tuple[int, int] | None:
    """Width and height of a picture, without decoding it; None for what is none. upright: as EXIF turns it."""
    try:
        with warnings.catch_warnings(action="ignore"), _limit(MOST_PIXELS), Image.open(path) as image:
            turned = upright and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            return image.size[::-1] if turned else image.size
    except Exception:  # noqa: BLE001 - damaged files make Pillow raise nearly anything
        return None


def find_missing(split: Split) -> list[int]:
    """Indices of pictures whose file is missing, empty or not a regular one; opens none, so it is quick."""
    if not isinstance(split.images, FileImages) or split.images.is_listed:
        return []
    missing: list[int] = np.flatnonzero(split.images.statuses[:, 0] <= 0).tolist()
    return missing


def refuse_missing(split: Split) -> None:
    """InputError naming the pictures that `find_missing` finds, if there are any."""
    if missing := find_missing(split):
        names = [split.images.where(i) for i in missing]
        slashes = " Paths are written with /, not \\." if all("\\" in name for name in names) else ""
        raise InputError(
            f"{len(missing)} of {len(split)} images of split '{split.name}' are missing or empty: "
            f"{first_five(names)}.{slashes}\n"
            f"Put them there, or leave them out with {parameter('skip_broken')}=true"
        )


def _size_and_time(path: str | Path) -> tuple[int, int]:
    """Byte size and time of change in ns; (-1, 0) for what isn't there or is no regular file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half of Path.stat's time
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return -1, 0
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)


def digest(values: Sequence[object]) -> str:
    """SHA-256 of plain values, in hex."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
