"""last.ckpt: the checkpoint that an unfinished run resumes from, after an epoch or within one."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from lshfm.console import logger
from lshfm.engine.journal import Journal
from lshfm.engine.state import State
from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint
from lshfm.models.run_state import FORMAT, VERSION
from lshfm.ranks.group import require_same
from lshfm.report import disk
from lshfm.runs.folder import RunFolder

NOTHING_YET: dict[str, Any] = {"names": [], "rows": []}  # the state_dict of a journal without pending losses


def write_last(folder: RunFolder, state: State, journal: Journal, made_by: Mapping[str, Any], keep: int) -> None:
    """Write a synchronised state and a settled journal to last.ckpt, keeping `keep - 1` older ones; rank 0 alone.

    made_by: what else the numbers depend on (ranks, device, threads, torch's version, pixels), and what a finished
    checkpoint says of its network, so that it can be evaluated and started from meanwhile.
    """
    content = {"state": state.state_dict(), "journal": journal.state_dict()}
    folder.shift_lasts(keep)
    write_checkpoint(folder.last, {"format": FORMAT, "version": VERSION, **made_by, **content})


def log_room(folder: Path, state: State, keep: int, stores: Collection[Path]) -> None:
    """Say what the run will keep on disks: checkpoints in its folder, and the stores that its pixels are in."""
    logger.info(disk.line(_checkpoint_bytes(state, keep), folder, stores))


def _checkpoint_bytes(state: State, keep: int) -> int:
    """What a run's checkpoints take on disk, about: `keep` last ones and one being written; best, finished, average."""
    constants = sum(value.nbytes for value in state.constants.values() if isinstance(value, torch.Tensor))
    weights: int = sum(tensor.nbytes for tensor in state.model.state_dict().values()) + constants
    average = sum(tensor.nbytes for tensor in state.ema.state_dict().values()) if state.ema else 0
    defaults = state.optimizer.defaults
    moments = 2 if "betas" in defaults else int(defaults["momentum"] > 0)
    learned: int = sum(p.nbytes for group in state.optimizer.param_groups for p in group["params"])
    mean = state.average.bytes_of(state.model) if state.average else 0
    return (keep + 1) * (weights + average + mean + moments * learned) + (3 if mean else 2) * weights


def restore(
    folder: RunFolder, state: State, journal: Journal, made_by: Mapping[str, Any], epochs: int
) -> list[dict[str, int]]:
    """Resume from the newest last.ckpt that can be read, if there is one. Raises InputError if none of them can.

    Returns what was planned before: numbers of epochs, each with the place (epoch, step) until which it held.
    """
    paths, plans = folder.lasts(), list[dict[str, int]]()
    if not paths:
        journal.resume(state, NOTHING_YET)  # a run that was stopped before may have written lines
    for path in paths:
        try:
            content = read_last(path)
            state.load_state_dict(content["state"])
            if state.epoch == epochs and not state.is_evaluated:  # it was to have more epochs, evaluated later on
                state.epoch, state.step = state.epoch - 1, journal.steps
            journal.resume(state, content["journal"])
        except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
            message = f"{path} cannot be used: {_why(error, path)}"
            if path == paths[-1]:
                raise InputError(
                    f"{message}\nSo the run cannot go on: delete {folder.path} to start anew; its best.ckpt may still "
                    "be evaluated."
                ) from error
            logger.warning("%s; taking the one before", message)
            folder.unusable.append(path)
        else:
            plans = _plans(content, state, epochs)
            logger.info("continuing %s of %d epochs", position(state.epoch, state.step), epochs)
            _say_what_changed(content, made_by)
            break
    require_same(str(folder.last), (bool(paths), state.epoch, state.step))
    return plans


def _why(error: Exception, path: Path) -> str:
    """What is wrong with a file, without its name, which the message begins with."""
    if isinstance(error, InputError):
        return str(error).removeprefix(f"{path}: ")
    return f"it does not hold what a run writes ({type(error).__name__}: {error})"


def _plans(content: Mapping[str, Any], state: State, epochs: int) -> list[dict[str, int]]:
    planned = content.get("config", {}).get("epochs", epochs)
    new = [] if planned == epochs else [{"epochs": planned, "until_epoch": state.epoch, "until_step": state.step}]
    return [*content.get("planned_before", []), *new]


def _say_what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Log what changed since the checkpoint was saved and keeps the results from being equal bit for bit."""
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
    """Where the run would resume, in words."""
    if not folder.last.is_file():
        return "from the start"
    state = read_last(folder.last, whole=False)["state"]
    return position(state["epoch"], state["step"])


def position(epoch: int, step: int) -> str:
    """After how many epochs and steps, in words."""
    return f"after epoch {epoch}" + (f" and {step} steps" if step else "")


def read_last(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """What `write_last` wrote, in the layout of VERSION; `whole` as in read_checkpoint. Raises InputError."""
    content = read_checkpoint(path, whole=whole)
    if content.get("format") != FORMAT or not isinstance(content.get("version"), int):
        raise InputError("it is no checkpoint of a run")
    if content["version"] > VERSION:
        raise InputError("a newer lshfm wrote it: upgrade to go on with it")
    return _upgraded(content)


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content in the layout of VERSION; version 1 had neither ranks nor steps within an epoch."""
    if content["version"] == 1:
        random = content["state"]["random"]
        content["state"] |= {"step": 0, "random": [random]}
        device = "cpu" if random["cuda"] is None else "cuda"
        content |= {"journal": NOTHING_YET, "ranks": 1, "device": device}
    return content
