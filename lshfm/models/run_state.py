"""The network in last.ckpt, the state of a run, and in words what that file is and which files hold networks alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lshfm.errors import InputError, printable
from lshfm.models.wrappings import COUNT, DDP, Found, state_of

FORMAT, VERSION = "lshfm-run", 2


def is_run_state(file: Mapping[str, Any]) -> bool:
    """Whether a file's content is the state of a run."""
    return file.get("format") == FORMAT


def network_of_run(file: Mapping[str, Any]) -> Found:
    """What the run evaluates and keeps: its moving average where it has one.

    Raises InputError, as a clause that continues the file's name, for a damaged file.
    """
    parts = file.get("state")
    if not isinstance(parts, dict):
        raise InputError("is damaged: state missing or of the wrong kind")
    if average := parts.get("ema"):  # torch's AveragedModel, which wraps as DDP does
        state = {str(name).removeprefix(DDP): tensor for name, tensor in state_of(average).items() if name != COUNT}
        return Found(state, ("its moving average",))
    return Found(state_of(parts.get("model")))


def describe(path: Path, file: Mapping[str, Any]) -> str:
    """What the file is, and which other files hold the run's networks."""
    parts = file.get("state")
    state = parts if isinstance(parts, dict) else {}
    steps = f" and {state['step']} steps" if isinstance(state.get("step"), int) and state["step"] else ""
    others = " and ".join(_others(path, file))
    return f"the state of a run after epoch {_number(state.get('epoch'))}{steps}; {others}"


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else "?"


def _others(path: Path, file: Mapping[str, Any]) -> Iterator[str]:
    config = file.get("config")
    folder = config.get("checkpoint_dir") if isinstance(config, dict) else None
    finished = Path(folder if isinstance(folder, str) else "checkpoints") / f"{path.absolute().parent.name}.ckpt"
    if _is_file(path.with_name("best.ckpt")):
        yield f"{path.with_name('best.ckpt')} holds the network of its best epoch"
    is_there = _is_file(finished.expanduser())
    yield f"{printable(str(finished))} {'holds' if is_there else 'will hold'} that of the finished run"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a disk takes
        return False
