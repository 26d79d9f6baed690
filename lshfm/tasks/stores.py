"""Opens the store of a split's pictures where the data set's `cache` wants one, and says so."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lshfm.config.groups import Dataset
from lshfm.console import logger, progress
from lshfm.datasets.decode import find_broken
from lshfm.datasets.images import FileImages
from lshfm.datasets.ragged_file import RaggedFile, estimated
from lshfm.datasets.split import Images, Split
from lshfm.datasets.store import choose_cache, find_store, open_store
from lshfm.datasets.store_file import Store, StoreFile
from lshfm.datasets.whole import StoredPictures, WholePictures
from lshfm.ranks.group import doing, place


def cores() -> int:
    """Of this process."""
    return len(os.sched_getaffinity(0))


def workers_of(asked: int | None) -> int:
    """Processes that decode for this rank, unless so many were asked for."""
    return max(cores() // place().local_num, 1) if asked is None else asked


def store_name(split: Split, dataset: Dataset) -> str:
    """What tells a split's stores from those of others in one folder."""
    # The count keeps apart the stores of splits with one name, such as COCO's with keep=annotated and keep=all.
    return f"{dataset.name}_{split.name}_{len(split)}".replace("/", "-")


def opened_store(
    split: Split, dataset: Dataset, workers: int | None, images: Images, size: int, needed: Callable[[], int], *,
    kind: type[StoreFile] = StoreFile, name: str = "", memory: int | None = None,
) -> Store | None:  # fmt: skip
    """The store of these pictures, built where it is not there; None where they are decoded in every epoch.

    needed: bytes of the store. name: behind the split's. memory: as in choose_cache.
    """
    folder, name = Path(dataset.cache_dir).expanduser(), store_name(split, dataset) + name
    stored = find_store(images, size, folder, name=name, kind=kind) if dataset.cache != "off" else None
    more = 0 if stored or dataset.cache == "off" else needed()
    use_store, sentence = choose_cache(dataset.cache, more, folder, memory)
    logger.info("%s: %s", split.name, f"Pixels come from the store {stored.path}." if stored else sentence)
    if not use_store:
        return None
    builders = cores() if workers is None else workers  # at work while the machine's other ranks wait
    with progress(f"decoding {split.name}") as report, doing(f"decoding {split.name}"):
        return open_store(
            images, size, folder, name=name, workers=builders, report=report, skip_broken=dataset.skip_broken, kind=kind
        )


def whole_pictures(split: Split, dataset: Dataset, workers: int | None, short: int = 0) -> StoredPictures | None:
    """A split's pictures in their own size, or at most `short` pixels on their short side, from a store.

    None where they are decoded in every epoch.
    """
    if not isinstance(split.images, FileImages):
        logger.info("%s: pictures that lie in no files are decoded in every epoch", split.name)
        return None
    whole = WholePictures(split.images, short)
    store = opened_store(
        split, dataset, workers, whole, short, lambda: estimated(whole), kind=RaggedFile, name="_whole",
        memory=_memory(),
    )  # fmt: skip
    if store is None:
        return None
    if dataset.cache == "device":
        logger.info("%s: pictures of many shapes stay on the disk (dataset.cache=device: of one shape)", split.name)
    return StoredPictures(RaggedFile(store.path, len(whole), short), split.images, split.images.fit)


def broken_of(split: Split, dataset: Dataset, size: int, workers: int) -> tuple[int, ...]:
    """The pictures that cannot be decoded, where the data set leaves such out; none otherwise. Decodes them all."""
    if not dataset.skip_broken:
        return ()
    with progress(f"decoding {split.name}") as report, doing(f"decoding {split.name}"):
        return find_broken(split.images, size, workers, report)


def store_path(source: Any) -> Path | None:
    """The file of a store that a loader's source reads from; None where pictures are decoded in every epoch."""
    source = getattr(source, "source", source)  # of what RandAugment changes
    store = getattr(getattr(source, "pictures", source), "store", None)
    return store.path if store else None


def say_broken(split: Split, broken: Any) -> None:
    """Log how many pictures are left out, if any are."""
    if len(broken):
        logger.warning("%s: %d broken images are left out (dataset.skip_broken=true)", split.name, len(broken))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
