"""A million names in one block of bytes: as texts, each of its own, they would take a gigabyte and seconds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class Lazy(Sequence[T]):
    """n values, each made when it is asked for."""

    def __init__(self, n: int, make: Callable[[int], T]) -> None:
        self._n, self._make = n, make

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._n))]
        return self._make(range(self._n)[index])

    def __eq__(self, other: object) -> bool:
        """As a tuple of the values."""
        same = isinstance(other, Sequence) and len(self) == len(other)
        return same and all(a == b for a, b in zip(self, other, strict=True))  # type: ignore[call-overload]

    __hash__ = None  # type: ignore[assignment]


class Names(Lazy[str]):
    """The lines of a block of UTF-8, each with its line's end."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        super().__init__(len(self._ends), self._name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.block.decode("utf-8").split("\n")[:-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, (self.block,)

    def _name(self, index: int) -> str:
        start = int(self._ends[index - 1]) + 1 if index else 0
        return self.block[start : int(self._ends[index])].decode("utf-8")
