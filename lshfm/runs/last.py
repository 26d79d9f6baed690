"""last.ckpt: where a run that is not finished goes on, after an epoch or within one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lshfm.console import logger
from lshfm.engine.journal import Journal
from lshfm.engine.state import State
from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint
from lshfm.ranks.group import require_same
from lshfm.runs.folder import RunFolder

FORMAT, VERSION = "lshfm-run", 2
NOTHING_YET: dict[str, Any] = {"names": [], "rows": []}  # of a journal


def write_last(folder: RunFolder, state: State, journal: Journal, made_by: Mapping[str, Any], keep: int) -> None:
    """Keep a synchronised state and a settled journal, and `keep - 1` of those before; for rank 0 alone.

    made_by: what the numbers depend on beside them: ranks, device, threads, torch's version, pixels, config.
    """
    content = {"state": state.state_dict(), "journal": journal.state_dict()}
    folder.shift_lasts(keep)
    write_checkpoint(folder.last, {"format": FORMAT, "version": VERSION, **made_by, **content})


def restore(folder: RunFolder, state: State, journal: Journal, made_by: Mapping[str, Any], epochs: int) -> None:
    """Take up the newest state kept that can be read, if there is any. Raises InputError if none of them can."""
    paths = folder.lasts()
    if not paths:
        journal.resume(state, NOTHING_YET)  # a run that was stopped before may have written lines
    for path in paths:
        try:
            content = _read(path)
            state.load_state_dict(content["state"])
            journal.resume(state, content["journal"])
        except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
            message = f"{path} cannot be used: {error}"
            if path == paths[-1]:
                raise InputError(
                    f"{message}\nSo the run cannot go on: delete {folder.path} to start anew; its best.ckpt may still "
                    "be evaluated."
                ) from error
            logger.warning("%s; taking the one before", message)
            folder.unusable.append(path)
        else:
            logger.info("continuing after %s of %d epochs", _position(state.epoch, state.step), epochs)
            _say_what_changed(content, made_by)
            break
    require_same(str(folder.last), (bool(paths), state.epoch, state.step))


def _say_what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """What keeps a continued run from giving the bits of an undisturbed one."""
    shown = {
        "ranks": "its number of ranks", "device": "its device", "threads": "its number of CPU threads",
        "torch": "torch's version", "pixels": "the version or place of its pixels",
    }  # fmt: skip
    both = before.keys() & now.keys()
    changed = [text for name, text in shown.items() if name in both and before[name] != now[name]]
    if changed:
        logger.info(
            "%s changed since it was saved: the results will not be to the bit those of an undisturbed run",
            " and ".join(changed),
        )


def position_of(folder: RunFolder) -> str:
    """Where the run would go on, in words."""
    if not folder.last.is_file():
        return "from the start"
    state = _read(folder.last, whole=False)["state"]
    return f"after {_position(state['epoch'], state['step'])}"


def _position(epoch: int, step: int) -> str:
    return f"epoch {epoch}" + (f" and {step} steps" if step else "")


def _read(path: Path, *, whole: bool = True) -> dict[str, Any]:
    content = read_checkpoint(path, whole=whole)
    if content.get("format") != FORMAT or not isinstance(content.get("version"), int):
        raise InputError("it is no checkpoint of a run")
    if content["version"] > VERSION:
        raise InputError("a newer lshfm wrote it: upgrade to go on with it")
    return _upgraded(content)


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew neither ranks nor places within an epoch."""
    if content["version"] == 1:
        random = content["state"]["random"]
        content["state"] |= {"step": 0, "random": [random]}
        device = "cpu" if random["cuda"] is None else "cuda"
        content |= {"journal": NOTHING_YET, "ranks": 1, "device": device}
    return content
