"""Reads pickles of plain containers and numpy's arrays, as data sets of old come in; nothing in one ever runs.

Python's own unpickler calls whatever a pickle names. This one admits numpy's way to rebuild an array, for which plain
classes stand in that check what they are given, and the encoding in which a newer pickle of protocol 2 has bytes.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import InputError
from lshfm.files.pickles import Number, check_pickle

_LARGEST = 2**32  # bytes of an array

_MOST_KEPT = 2**24  # objects that a pickle refers back to: Python's reader makes room for the largest number


class Rebuilt:
    """Stands in for numpy's array: nothing of numpy is called before its shape, numbers and bytes fit each other."""

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("no state of an array")
        _, shape, number, is_fortran, data = state
        if isinstance(data, str):  # bytes of a Python 2 pickle, where text is taken as latin1
            data = data.encode("latin1")
        if not isinstance(number, Number) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise ValueError("no array of numbers")
        dtype = np.dtype(f"{number.order}{number.code}")
        if not all(type(n) is int and 0 <= n <= _LARGEST for n in shape) or len(data) != _bytes(shape, dtype):
            raise ValueError("its bytes do not fit its shape")
        self.array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    total = dtype.itemsize
    for n in shape:
        total *= n
    return total


def _reconstruct(*_: object) -> Rebuilt:
    return Rebuilt()


def _from_buffer(data: object, number: object, shape: object, order: object) -> Rebuilt:
    """How protocol 5 spells an array."""
    if not isinstance(data, bytes | bytearray):
        raise ValueError("no bytes")
    rebuilt = Rebuilt()
    rebuilt.__setstate__((1, shape, number, order == "F", bytes(data)))
    return rebuilt


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("no bytes")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): Rebuilt,
    ("numpy", "dtype"): Number,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError(f"refused: it names {module}.{name}, and only arrays and plain values are read")
        return _KNOWN[module, name]

    def persistent_load(self, _pid: object) -> Any:
        raise InputError("refused: it points to objects outside of it")


def read_arrays(data: bytes, name: str) -> dict[str, Any]:
    """What a pickled dictionary holds: arrays, lists, texts, numbers; texts of Python 2 as latin1.

    name: of the file, for messages. Raises InputError for one that is damaged, that names code, that holds no
    dictionary, or that would take endless time or memory.
    """
    try:
        check_pickle(io.BytesIO(data), most_kept=_MOST_KEPT)
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # damaged files make the reader raise nearly anything
        raise InputError(f"{name}: not a pickle of arrays, or a truncated one: copy or download it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{name}: holds no dictionary")
    return {str(key): value.array if isinstance(value, Rebuilt) else value for key, value in found.items()}
