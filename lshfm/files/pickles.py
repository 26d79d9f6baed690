"""Checks a checkpoint's pickles before torch reads them, and defines what stands in for objects that they may hold.

torch's reader with weights_only=True runs nothing that a pickle names. It still packs and hashes tuples as it is
told, which a few bytes can make endless, and encodes text in any way that Python knows.
"""

import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from lshfm.errors import InputError

_MOST_IN_A_TUPLE, _DEEPEST_TUPLE = 10**6, 100
_LEGACY_PICKLES = 5  # at the start of a file of before torch 1.6; its numbers follow
_ENCODE = "_codecs encode"  # how a pickle of protocol 2 spells bytes


def check_pickles(path: Path) -> None:
    """Raise InputError, as a clause that continues the file's name, for what would take endless time or memory."""
    with ExitStack() as stack:
        for file in _pickles(path, stack):
            try:
                check_pickle(file)
            except InputError:
                raise
            except Exception:  # noqa: BLE001 - cut off, or none at all: torch gets no further, and says so
                continue


def _pickles(path: Path, stack: ExitStack) -> Iterator[IO[bytes]]:
    if not zipfile.is_zipfile(path):
        file = stack.enter_context(path.open("rb"))
        yield from [file] * _LEGACY_PICKLES
        return
    archive = stack.enter_context(zipfile.ZipFile(path))
    for name in archive.namelist():
        if name.lower().endswith("data.pkl"):
            yield stack.enter_context(archive.open(name))


class _Part(NamedTuple):
    """An item on a pickle's stack, as far as the checks need it."""

    text: str | None = None  # a text, the name of a function, or the last text of a tuple
    size: int = 1  # values in a tuple, counted each time that they are in it
    depth: int = 0


_MARK = _Part("a mark")


def check_pickle(file: IO[bytes], *, most_kept: int | None = None) -> None:
    """Follow one pickle's opcodes without building its objects. Raises InputError for those that are refused.

    most_kept: the largest number under which an object may be kept to be referred back to, for a reader that makes room
    for as many; torch's does not.
    """
    stack: list[_Part] = []
    memo: dict[Any, _Part] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "MARK":
            stack.append(_MARK)
        elif opcode.name.endswith("PUT"):
            if most_kept is not None and isinstance(argument, int) and argument > most_kept:
                raise InputError("refused: it asks for endless memory")
            memo[argument] = stack[-1]
        elif opcode.name == "MEMOIZE":  # from protocol 4 on, for PUT
            memo[len(memo)] = stack[-1]
        elif opcode.name.endswith("GET"):
            stack.append(memo[argument])
        else:
            parts = _taken(stack, opcode)
            if opcode.name == "REDUCE" and parts[0].text == _ENCODE and parts[1].text != "latin1":
                raise InputError("refused: it holds text in an encoding that torch never writes")
            if opcode.stack_after:
                text = argument if isinstance(argument, str) else None
                stack.append(_tuple(parts) if "TUPLE" in opcode.name else _Part(text))


def _taken(stack: list[_Part], opcode: pickletools.OpcodeInfo) -> list[_Part]:
    """Take the items that an opcode works on off the stack, and return them without the mark."""
    count = len(opcode.stack_before)
    if pickletools.markobject in opcode.stack_before:
        mark = next(i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK)
        del stack[mark]
        count = len(stack) - mark + count - 2  # the mark and the slice above it are two of them
    parts = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return parts


def _tuple(parts: list[_Part]) -> _Part:
    size, depth = 1 + sum(part.size for part in parts), 1 + max((part.depth for part in parts), default=0)
    if size > _MOST_IN_A_TUPLE or depth > _DEEPEST_TUPLE:
        raise InputError("refused: it holds tuples within tuples without end")
    return _Part(parts[-1].text if parts else None, size, depth)


@dataclass
class Number:
    """Stands in for numpy.dtype, whose own way of reading a pickle trusts it."""

    code: str
    order: str = "<"

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[fiu][1248]|b1", code):
            raise ValueError(f"no number: {code}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


_STRUCT = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "b1": "?"}
_STRUCT |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}


def _scalar(number: Number, data: bytes) -> float:
    """Stands in for numpy's scalar: a number of Python's."""
    value: float = struct.unpack(number.order + _STRUCT[number.code], data)[0]
    return value


class _Aside:
    """Stands in for objects that say how a file was made: nothing of them is kept, and nothing of theirs runs."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Checkpoints of the published code hold one numpy scalar (best_prec1), under numpy 1's or numpy 2's name. Those of
# other training tools hold their command line, as argparse gives it, and paths.
STAND_INS: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (Number, "numpy.dtype"),
    (_Aside, "argparse.Namespace"),
    *((_Aside, f"{module}.{name}")
      for module in ("pathlib", "pathlib._local")  # the latter is Python 3.13's
      for name in ("PosixPath", "WindowsPath")),
]  # fmt: skip
