"""A split's pictures, decoded and resized once into a file of uint8 pixels that is mapped into memory.

kind, of all functions: how the file is laid out, StoreFile for squares, or RaggedFile for pictures of many shapes.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import PIL
from PIL import features

from lshfm.datasets.checks import require_choice
from lshfm.datasets.decode import Report, decode_each, sweep
from lshfm.datasets.split import Images
from lshfm.datasets.store_file import Store, StoreFile
from lshfm.errors import InputError, RunFailed, parameter
from lshfm.files.locks import locked
from lshfm.files.room import free_bytes

log = logging.getLogger("lshfm")

_FORMAT = 2  # of the file, and of how pixels are made of pictures


def store_bytes(n: int, size: int) -> int:
    """Size in bytes of the store of n pictures of size x size."""
    return StoreFile(Path(), n, size).length


def choose_cache(cache: str, needed: int, cache_dir: Path, memory: int | None = None) -> tuple[bool, str]:
    """Whether to use a store that takes `needed` more bytes in `cache_dir`, and a sentence for the log that says so.

    `cache` is "on" (or "device"), "off" or "auto": on if the store takes at most half of what is free there. memory: of
    the machine, in bytes, where a store must fit there to pay.
    """
    key = parameter("cache")
    require_choice(key, cache, ("auto", "on", "off", "device"))
    if cache == "off":
        return False, f"Pixels are decoded in every epoch ({key}=off)."
    free = free_bytes(cache_dir)
    sizes = f"{human(needed)} more, {human(free)} free"
    if cache == "auto" and needed > free / 2:
        why = f"a store of them in {cache_dir} would take over half of the room: {sizes}"
        return False, f"Pixels are decoded in every epoch ({why}); {key}=on makes it all the same."
    if cache == "auto" and memory is not None and needed > memory:
        why = f"a store of them would not stay in memory: {human(needed)} of {human(memory)}"
        return False, f"Pixels are decoded in every epoch ({why}); {key}=on makes it all the same."
    return True, f"Pixels are decoded once, into a store in {cache_dir} ({sizes})."


def find_store(
    images: Images, size: int, cache_dir: Path, *, name: str, kind: type[StoreFile] = StoreFile
) -> Store | None:
    """The finished store of exactly these pictures, if there is one."""
    file = file_of(images, size, cache_dir, name, kind)
    return None if file.fault() else file.open()


def open_store(
    images: Images,
    size: int,
    cache_dir: Path,
    *,
    name: str,
    workers: int,
    report: Report,
    skip_broken: bool = False,
    kind: type[StoreFile] = StoreFile,
) -> Store:
    """The pictures' store in `cache_dir`, built first where it is missing, damaged or stale.

    `name` is the data set's and split's, with all else that tells apart stores to be kept side by side:
    another store of the same name, size and place is taken as stale. `report(done, total)` is called while
    building. InputError: broken pictures (unless `skip_broken`), no room, a folder that can't be used.
    RunFailed: the disk filled up meanwhile, or a decoding process was killed.
    """
    assert len(images) > 0
    file = file_of(images, size, cache_dir, name, kind)

    def find() -> Store | None:
        store = None if file.fault() else file.open()
        if store is None or skip_broken or not store.broken:
            return store
        # Rights or a network disk may have been mended, which no signature shows: try those pictures again.
        _refuse(decode_each(images, store.broken, size, lambda _index, _pixels: None), file.n)
        return None

    if store := find():
        return store
    with _sole_builder(file.path):
        if store := find():  # built by another process while this one waited
            return store
        _build(file, images, workers, report, skip_broken)
        return file.open()


def pixel_key(images: Images, size: int) -> str:
    """A key that differs for other pictures, another size, and versions that may decode to other pixels."""
    made_by = [_FORMAT, size, "bilinear", PIL.__version__, features.version("jpg")]
    return _digest([*made_by, images.signature()])[:16]


def file_of(images: Images, size: int, folder: Path, name: str, kind: type[StoreFile] = StoreFile) -> StoreFile:
    """The store's file: <name>_<size>_<hash of name and pictures' folder>_<pixel_key>.npy."""
    place = _place(images)
    key = pixel_key(images, size)
    plain = re.sub(r"[^\w.-]+", "-", name)
    return kind(folder / f"{plain}_{size}_{_digest([name, place])[:8]}_{key}.npy", len(images), size)


def _place(images: Images) -> str:
    """The first picture's folder; "" for drawn pictures, and where the name is too long for a file."""
    first = Path(images.where(0))
    try:
        return str(first.absolute().parent) if first.exists() else ""
    except OSError:
        return ""


def _prefix(path: Path) -> str:
    """What the files of the same name, size and place begin with, whatever their key."""
    return path.name.rpartition("_")[0] + "_"


def _relatives(path: Path, suffix: str) -> list[Path]:
    return [p for p in path.parent.iterdir() if p.name.startswith(_prefix(path)) and p.suffix == suffix]


@contextmanager
def _sole_builder(path: Path) -> Iterator[None]:
    """Only one process at a time builds stores of this name, size and place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".{_prefix(path)}lock"
        with name.open("a") as lock:
            if not locked(lock.fileno(), name):
                log.info("Waiting for another process that builds the pixel store %s", path)
                locked(lock.fileno(), name, wait=True)
            yield
    except OSError as error:
        raise InputError(f"No pixel store in {path.parent}: {error.strerror}. {_other_ways()}") from error


def _build(file: StoreFile, images: Images, workers: int, report: Report, skip_broken: bool) -> None:
    """Build the store under a temporary name, then rename it; nothing is left if that fails."""
    part = replace(file, path=file.path.with_suffix(".part")).planned(images, workers)
    try:
        _clear(file)
        _require_room(part.length, file.path.parent)
        part.allocate()
        broken = sweep(images, part.fill, workers, report)
        if not skip_broken:
            _refuse(broken, file.n)
        part.seal(broken)
        part.path.replace(file.path)
        for stale in _relatives(file.path, ".npy"):
            if stale != file.path:
                stale.unlink()  # a process that has it open keeps it
    except OSError as error:
        raise RunFailed(f"Writing the pixel store {file.path} failed: {error.strerror}. {_other_ways()}") from error
    finally:
        part.path.unlink(missing_ok=True)


def _clear(file: StoreFile) -> None:
    """Remove what killed builders left, and a store that can't be used."""
    for left_over in _relatives(file.path, ".part"):
        left_over.unlink()
    if file.path.exists():
        why = file.fault() or "lacks pictures that were broken then"
        log.warning("Pixel store %s %s: building it again", file.path, why)
        file.path.unlink()


def _require_room(needed: int, folder: Path) -> None:
    free = free_bytes(folder)
    if needed * 1.05 > free:
        raise InputError(
            f"No room for the pixel store in {folder}: it needs {human(needed)} and 5 % to spare, "
            f"{human(free)} are free.\n{_other_ways()}"
        )


def _refuse(broken: dict[int, str], n: int) -> None:
    """InputError that names the broken pictures, if there are any."""
    if broken:
        named = "".join(f"\n  {message}" for message in list(broken.values())[:5])
        more = f"\n  and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise InputError(
            f"{len(broken)} of {n} images are broken:{named}{more}\n"
            f"Mend them, or leave them out with {parameter('skip_broken')}=true"
        )


def _other_ways() -> str:
    folder, cache = parameter("cache_dir"), parameter("cache")
    return f"{folder}=DIR puts it elsewhere, {cache}=off decodes in every epoch instead."


def human(size: float) -> str:
    """A number of bytes in GB or MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
