"""What reading a data set gives: its classes, labels in one array, and where its pictures come from."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.checks import first_five, require_choice
from lshfm.errors import InputError, parameter, printable

Labels = NDArray[np.signedinteger[Any]]  # int8 (n, C) of several labels an image, int64 (n,) of one
Pixels = NDArray[np.uint8]


class BrokenImage(InputError):
    """A picture that cannot be decoded; `where` names it, `why` is a clause that continues the name."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)  # both as args, so that a decode worker can pickle it
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"{printable(self.where)} {self.why}"


class Images(Protocol):
    """Where n pictures come from; picklable, so that decode workers can be given it."""

    def __len__(self) -> int: ...

    def pixels(self, index: int, size: int) -> Pixels:
        """RGB, uint8 (size, size, 3), writable. Raises BrokenImage."""
        ...

    def signature(self) -> str:
        """Hex digest that changes whenever some picture's pixels may have changed."""
        ...

    def fingerprint(self) -> str:
        """Hex digest of what the pictures are, the same wherever they lie and whenever they were copied."""
        ...

    def where(self, index: int) -> str:
        """What to call picture `index` in a message."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    `labels` (n, ...) are laid out as the task needs them; the readers of this room give int8 (n, C): +1 present, 0
    only difficult objects of the class, -1 absent. `classes` names a network's outputs, in their order.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[Any]
    images: Images

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.ids)
        assert len(self.images) == len(self.ids)
        assert len(set(self.ids)) == len(self.ids)
        assert len(set(self.classes)) == len(self.classes)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def about(self) -> dict[str, Any]:
        """What else a network that learns from it should know, as plain values by name."""
        return {}

    def fingerprint(self) -> str:
        """SHA-256 over classes, ids, labels and the pictures' fingerprint: equal for copies of a data set."""
        names = json.dumps([self.classes, list(self.ids), self.images.fingerprint()])
        return hashlib.sha256(names.encode() + self.labels.tobytes()).hexdigest()


def settle_unlabelled(split: Split, unlabelled: str) -> Split:
    """The split, if every image shows some class (difficult objects count) or `unlabelled` is "negative".

    "negative" takes the others as showing none of the classes; "error" raises InputError naming them.
    """
    name = parameter("unlabelled")
    require_choice(name, unlabelled, ("error", "negative"))
    bare = np.flatnonzero((split.labels < 0).all(axis=1))
    if unlabelled == "error" and bare.size:
        raise InputError(
            f"{bare.size} of {len(split)} images of split '{split.name}' have no label: "
            f"{first_five(split.ids[i] for i in bare)}.\nLabel them or take them out; "
            f"{name}=negative treats them as showing none of the classes."
        )
    return split
