"""Runs that differ in their number of epochs alone: one goes on from where the other has got to."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.files.locks import is_locked
from lshfm.files.write import duplicate, replacing
from lshfm.runs.folder import RunFolder
from lshfm.runs.last import position, read_last

Position = tuple[int, int]  # epochs done, and steps of the next one


def require_room_to_go_on(folder: RunFolder, identity: Mapping[str, Any], *, is_swept: bool = False) -> None:
    """InputError unless the run in the folder, of another length than `identity` says, can go on to that length.

    is_swept: whether each number of epochs is to be a run of its own.
    """
    there, epochs = folder.identity().get("epochs"), identity["epochs"]
    if is_swept:
        raise InputError(
            f"{folder.path} holds this run with epochs={there}: in a sweep over epochs each job is a run of its own, "
            "which one name= for all does not allow"
        )
    newest = _newest(folder)
    if newest is None:
        raise InputError(
            f"{folder.path} holds this run with epochs={there}, but no last.ckpt to go on from to epochs={epochs}: "
            "overwrite=true trains it anew, name=NAME keeps both"
        )
    if newest[0] > (epochs, 0):
        raise InputError(
            f"{folder.path} holds this run with epochs={there} and is {position(*newest[0])} already, past "
            f"epochs={epochs}: name=NAME trains another, overwrite=true begins this one anew"
        )


def take_over(folder: RunFolder, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fill the new folder with what a run beside it has done that differs in its length alone; that run's identity.

    Of several the one that has got furthest, but not past this run's end. last.ckpt comes last: without it the folder
    is new, and the other run stays as it is.
    """
    found = _furthest(folder, identity)
    if found is None:
        return None
    source, last = found
    left = (*source.lasts(), source.predictions)  # the ones come below, the others with the end of this run
    for path in sorted([*source.path.glob("*.ckpt"), *source.path.glob("*.npz")]):
        if path not in left:
            duplicate(path, folder.path / path.name)
    if source.metrics.is_file():
        with replacing(folder.metrics) as temporary:
            shutil.copyfile(source.metrics, temporary)
    duplicate(last, folder.last)
    logger.info("taken over from %s, which stays as it is; overwrite=true would begin anew", source.path)
    return source.identity()


def log_change(folder: RunFolder, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say that a run goes on to another number of epochs, and what becomes of its learning rate."""
    newest = _newest(folder)
    done = newest[0] if newest else (0, 0)
    policy = now.get("schedule.policy", "cosine")
    is_another = policy != "cosine" or before.get("schedule.cosine_epochs") != now.get("schedule.cosine_epochs")
    if is_another and done > (0, 0):
        rate = (
            f"from epoch {done[0] + 1} on the learning rate ({policy}) is that of a run planned for {now['epochs']} "
            "epochs, until there it was another: the numbers will not be those of such a run"
        )
    else:
        rate = f"the learning rate is that of a run planned for {now['epochs']} epochs, and so will be the numbers"
    logger.info("epochs=%d instead of %s, %s: %s", now["epochs"], before.get("epochs"), position(*done), rate)


def _furthest(folder: RunFolder, identity: Mapping[str, Any]) -> tuple[RunFolder, Path] | None:
    """The run to take over, and the checkpoint that it has got furthest with."""
    found: list[tuple[Position, Path]] = []
    for path in sorted(folder.path.parent.iterdir()):
        other = RunFolder(path)
        if path == folder.path or not other.is_of(identity, but_for_its_length=True):
            continue
        newest = _newest(other)
        if newest is None:
            logger.info(
                "%s is this run with other epochs, but has no last.ckpt to go on from: this one begins anew", path
            )
        elif is_locked(path / ".lock"):
            logger.info("%s is this run with other epochs, but still runs: this one begins anew", path)
        elif (0, 0) < newest[0] <= (identity["epochs"], 0):
            found.append(newest)
    last = max(found)[1] if found else None
    return (RunFolder(last.parent), last) if last else None


def _newest(folder: RunFolder) -> tuple[Position, Path] | None:
    """How far the newest last.ckpt is that can be read, and its path; None if none can."""
    for path in folder.lasts():
        try:
            state = read_last(path, whole=False)["state"]
            return (int(state["epoch"]), int(state["step"])), path
        except (InputError, KeyError, TypeError, ValueError):
            continue
    return None
