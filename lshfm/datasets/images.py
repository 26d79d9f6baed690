"""Pictures that lie in files."""

import hashlib
import json
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lshfm.datasets.checks import first_five
from lshfm.datasets.split import BrokenImage, Pixels, Split
from lshfm.errors import InputError

# What Pillow's decoders raise for damaged files, besides OSError.
_DECODING_ERRORS = (
    Image.DecompressionBombError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class FileImages:
    """One file a picture, opened only when asked for: a missing one is a broken image like others."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def pixels(self, index: int, size: int) -> Pixels:
        """As published: RGB, Pillow's antialiased bilinear resize to size x size, no EXIF rotation."""
        return np.array(self._decode(index).resize((size, size), Image.Resampling.BILINEAR))

    def signature(self) -> str:
        """Over every file's absolute path, byte size and time of change."""
        stats = [(str(path.absolute()), *_size_and_time(path)) for path in self.paths]
        return _digest(stats)

    def fingerprint(self) -> str:
        """Over the files' byte sizes: all that can be known of their content without reading it."""
        return _digest([_size_and_time(path)[0] for path in self.paths])

    def _decode(self, index: int) -> Image.Image:
        where, path = self.where(index), self.paths[index]
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
                raise BrokenImage(where, "is not a regular file")
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                if image.format == "EPS":  # Pillow would run Ghostscript on it
                    raise BrokenImage(where, "is PostScript, a program that is not run")
                return image.convert("RGB")
        except UnidentifiedImageError as error:
            empty = _size_and_time(path)[0] == 0
            raise BrokenImage(where, "is empty" if empty else "is not an image that Pillow reads") from error
        except OSError as error:
            raise BrokenImage(where, f"cannot be read: {error.strerror or error}") from error
        except _DECODING_ERRORS as error:
            raise BrokenImage(where, f"is damaged: {error}") from error


def find_missing(split: Split) -> list[int]:
    """Indices of pictures whose file is missing, empty or not a regular one; opens none, so it is quick."""
    if not isinstance(split.images, FileImages):
        return []
    return [i for i, path in enumerate(split.images.paths) if _size_and_time(path)[0] <= 0]


def refuse_missing(split: Split) -> None:
    """InputError naming the pictures that `find_missing` finds, if there are any."""
    if missing := find_missing(split):
        raise InputError(
            f"{len(missing)} of {len(split)} images of split '{split.name}' are missing or empty: "
            f"{first_five(split.images.where(i) for i in missing)}.\n"
            "Put them there, or leave them out with dataset.skip_broken=true"
        )


def _size_and_time(path: Path) -> tuple[int, int]:
    """Byte size and time of change in ns; (-1, 0) for what isn't there or is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return -1, 0
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
