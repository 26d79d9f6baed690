"""Finds a network's weights in the files that training tools write: under which entry, and under which prefix."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lshfm.errors import InputError, printable

State = dict[str, Tensor]

ENTRIES = ("state_dict", "model", "model_state_dict")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema")
COMPILED, DDP = "_orig_mod.", "module."  # parts of a network can be wrapped, too
# What stands before names: a moving average's is looked for before its network's.
PREFIXES = (DDP, "model_ema.", "ema_model.", "ema.", "model.", "net.", "network.")
COUNT = "n_averaged"  # torch's AveragedModel keeps it beside the weights
MOST_PREFIXES, MOST_NAMED = 6, 4


@dataclass(frozen=True)
class Found:
    """Weights under bare names, and in words where they were found; "" for a file that is nothing but them."""

    state: State
    words: tuple[str, ...] = ()


def weights_in(file: Mapping[str, Any]) -> Found:
    """The entry that holds the weights: a moving average where there is one, as its writer evaluates that one.

    Raises InputError, as a clause that continues the file's name, if there is none.
    """
    if _is_state(file):
        return Found(dict(file))
    main, average = (next((n for n in names if _is_state(file.get(n))), None) for names in (ENTRIES, AVERAGES))
    entry = average or main
    if entry is None:
        return Found(state_of(next((file[name] for name in ENTRIES if name in file), file)))  # says what is there
    beside = f", not {main}" if average and main else ""
    return Found(file[entry], (f"its {entry}, a moving average{beside}" if average else f"its {entry}",))


def state_of(value: Any) -> State:
    """The entry of a file that is known to hold weights. Raises InputError as `weights_in` does."""
    if _is_state(value):
        return dict(value)
    found = _listed(list(value)) if isinstance(value, dict) else type(value).__name__
    raise InputError(f"holds no state dict (found: {found or 'nothing'})")


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, Tensor) for item in value.values())


def bare(found: Found, known: Collection[str] = ()) -> Found:
    """The weights without the prefixes that wrappers (DDP, torch.compile, Lightning, a moving average) put before them.

    known: names of the network to fill; a prefix that one of them has is part of its names.
    """
    state, taken_off = {str(name): tensor for name, tensor in found.state.items()}, []
    left: dict[str, None] = {}
    if any(COMPILED in name for name in state) and not any(COMPILED in name for name in known):
        state = {name.replace(COMPILED, ""): tensor for name, tensor in state.items()}
        taken_off.append(COMPILED)
    while len(taken_off) < MOST_PREFIXES and (prefix := _prefix(state, known)):
        left |= dict.fromkeys(_left(state, prefix))
        state = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix) or prefix == DDP}
        taken_off.append(prefix)
    if COUNT not in known:
        state.pop(COUNT, None)
    words = [f"names without {', '.join(taken_off)}"] if taken_off else []
    words += [f"left out {_listed(list(left))}"] if left else []
    return Found(state, (*found.words, *words))


def _prefix(state: State, known: Collection[str]) -> str | None:
    """The first prefix that names have and the network's own have not, or that stands before each of these."""
    whole = [p for p in PREFIXES if known and all(p + name in state for name in known)]
    return next((p for p in PREFIXES if p in whole or (_starts(p, state) and not _starts(p, known))), None)


def _starts(prefix: str, names: Collection[str]) -> bool:
    return any(name.startswith(prefix) for name in names)


def _left(state: State, prefix: str) -> Iterator[str]:
    """The parts that a prefix leaves aside; DDP's may stand before some parts of a network alone."""
    if prefix != DDP:
        yield from (name.partition(".")[0] for name in state if not name.startswith(prefix) and name != COUNT)


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(printable(str(name)) for name in names[:MOST_NAMED])
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
