"""Folders of classes: <root>/<split>/<class>/<picture>, as ImageNet and many others come."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lshfm.datasets.checks import (
    contents,
    find_root,
    first_five,
    read_text,
    require_choice,
    require_plain,
    require_text,
)
from lshfm.datasets.fitting import FITS
from lshfm.datasets.images import FileImages, digest
from lshfm.datasets.listing import Listing, list_folders
from lshfm.datasets.names import Lazy
from lshfm.datasets.reader import class_list
from lshfm.datasets.split import Split
from lshfm.errors import InputError, nearest, parameter


class ListedPaths(Lazy[Path]):
    """The paths of a listing."""

    def __init__(self, listing: Listing) -> None:
        super().__init__(len(listing.names), self._path)
        self.listing = listing

    def _path(self, number: int) -> Path:
        return self.listing.root / self.listing.id_of(number)

    def __reduce__(self) -> tuple[Any, ...]:
        return ListedPaths, (self.listing,)

    def __eq__(self, other: object) -> bool:
        """Whether both are of one folder, however it is called."""
        return isinstance(other, ListedPaths) and self.listing.root.resolve() == other.listing.root.resolve()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.listing.root.resolve())


@dataclass(frozen=True)
class FolderImages(FileImages):
    """The pictures of a listing. fit: "crop" is the middle of a picture, its short side resized; "stretch" all of it.

    Files are told by their names and their folders' times; one whose content is changed in place counts as the same.
    """

    paths: Any = None  # a ListedPaths
    fit: str = "crop"
    is_listed: ClassVar[bool] = True

    @property
    def listing(self) -> Listing:
        listing: Listing = self.paths.listing
        return listing

    def signature(self) -> str:
        return self._signature

    def fingerprint(self) -> str:
        """Hex digest of the files' names: all that can be known of a million files without asking for each."""
        return self.listing.fingerprint

    @cached_property
    def _signature(self) -> str:
        listing = self.listing
        return digest([str(listing.root), listing.times, listing.fingerprint, self.fit, self.upright])


@dataclass(frozen=True, eq=False)
class FolderSplit(Split):
    """A split of a listing, whose ids are made when they are asked for; no two are alike, as no two files are."""

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.ids) == len(self.images)

    def fingerprint(self) -> str:
        """As of other splits; of a million pictures it takes seconds, so that it is kept with the list."""
        assert isinstance(self.images, FolderImages)
        labels = hashlib.sha256(self.labels.tobytes()).hexdigest()
        key = digest([self.images.fingerprint(), self.classes, str(self.labels.dtype), labels])
        return self.images.listing.kept(key, super().fingerprint)


class ImageFolder:
    """Splits are folders of `root`; classes are the folders in the training split, by name.

    classes_from: the split that says which classes there are. names: a text file of what classes are called: a line
    each in the order of the folders, or FOLDER NAME. lists: folder in which the lists of files are kept; a list is
    read again while no folder has changed, which saves looking for every file. fit: as in FolderImages. exif: whether
    pictures are turned as their EXIF orientation says.
    """

    def __init__(
        self, root: str | Path, classes_from: str = "train", names: str | Path | None = None,
        lists: str | Path | None = None, fit: str = "crop", exif: bool = True,
    ) -> None:  # fmt: skip
        require_choice(parameter("fit"), fit, FITS)
        self.root = find_root(root)
        self.classes_from, self.fit, self.exif = str(classes_from), fit, exif
        self.names = None if names is None else Path(names).expanduser()
        self.lists = None if lists is None else Path(lists).expanduser()

    def split(self, name: str) -> Split:
        """Labels int64 (n,). Raises InputError for a split or a class that is not there, and for empty classes."""
        listing = self._listing(name)
        folders = listing.folders if name == self.classes_from else self._listing(self.classes_from).folders
        unknown = sorted(set(listing.folders) - set(folders))
        if unknown:
            raise InputError(
                f"{listing.root} has classes that {self.classes_from} has not: {first_five(unknown)}"
                f"{nearest(unknown[0], folders)}"
            )
        place = {folder: number for number, folder in enumerate(folders)}
        labels = np.repeat(np.array([place[folder] for folder in listing.folders], np.int64), listing.counts)
        images = FolderImages(ListedPaths(listing), self.exif, fit=self.fit)
        ids: Any = Lazy(len(labels), listing.id_of)
        return FolderSplit(name, self._called(folders), ids, labels, images)

    def _listing(self, name: str) -> Listing:
        require_plain(f"{parameter('root')} split", name)
        folder = self.root / name
        if not folder.is_dir():
            if not self.root.is_dir():
                raise InputError(f"{parameter('root')}={self.root}: no such folder.\nExpected {folder}/CLASS/PICTURE.")
            keys = f"{parameter('train_split')} and {parameter('eval_split')}"
            raise InputError(
                f"No split '{name}' at {parameter('root')}={self.root}; {keys} say which folders to take.\n"
                f"Expected {folder}/CLASS/PICTURE; {contents(self.root)}."
            )
        listing = list_folders(folder, self.lists)
        if not listing.folders:
            raise InputError(f"{folder} has no folders of classes; {contents(folder)}")
        empty = [each for each, count in zip(listing.folders, listing.counts, strict=True) if not count]
        if empty:
            raise InputError(
                f"{len(empty)} of {len(listing.folders)} folders of classes in {folder} hold no picture: "
                f"{first_five(empty)}.\nPut pictures there, or take the folders away; folders within them are not read"
            )
        return listing

    def _called(self, folders: Sequence[str]) -> tuple[str, ...]:
        """What the classes are called."""
        if self.names is None:
            return class_list(str(self.root / self.classes_from), folders)
        require_text(parameter("names"), str(self.names))
        lines = [line.strip() for line in read_text(self.names).splitlines() if line.strip()]
        table = {line.split()[0]: line[len(line.split()[0]) :].strip(" \t,:") for line in lines}
        if set(folders) <= table.keys():
            called = [table[folder] or folder for folder in folders]
        elif len(lines) == len(folders) and table.keys().isdisjoint(folders):
            called = lines
        else:
            missing = [folder for folder in folders if folder not in table]
            raise InputError(
                f"{self.names} has {len(lines)} lines, which neither name the {len(folders)} classes in order nor "
                f"begin with their folders (not there: {first_five(missing)})"
            )
        return class_list(str(self.names), list(_apart(called, folders)))


def _apart(called: Sequence[str], folders: Sequence[str]) -> Iterator[str]:
    """Names of which each is there once: ImageNet has two cranes."""
    for name, folder in zip(called, folders, strict=True):
        yield f"{name} ({folder})" if called.count(name) > 1 else name
