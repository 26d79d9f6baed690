"""What the word for a trained network means: a file, or the name of a finished checkpoint."""

import re
import shlex
from pathlib import Path

from lshfm.errors import InputError, nearest

SHOWN = 3  # names of others that a message lists


def checkpoint_file(named: str, folder: Path) -> Path:
    """The file that a path, or the name of a finished checkpoint in `folder`, means; it need not be there.

    A name may have its command in front, as lists of runs have it: mimic/student_stage2.
    """
    name = re.fullmatch(r"(?:(?:train|mimic)/)?([A-Za-z0-9._-]+)", named)
    if name and not Path(named).is_file():
        finished = folder / f"{name[1].removesuffix('.ckpt')}.ckpt"
        if finished.is_file() or not Path(named).suffix:
            return finished
    return Path(named).expanduser()


def missing_checkpoint(path: Path, named: str, output_dir: Path) -> InputError:
    """The error for a checkpoint that is not there. named: what was typed for it. output_dir: with the run folders."""
    if path == Path(named).expanduser():
        return InputError(f"{path}: no such file")
    if run := _unfinished(path.stem, output_dir):
        last = run / "last.ckpt"
        is_usable = last.is_file() and not run.name.endswith("_stage1")  # of stage 1 the classifier is untrained
        as_it_is = f"; {shlex.quote(f'checkpoint={last}')} takes the network as it is now" if is_usable else ""
        return InputError(
            f"checkpoint={named}: the run {run} is unfinished, so its checkpoint is still to come. The command that "
            f"began it, the first line of {run / 'log.txt'}, continues it{as_it_is}"
        )
    names = sorted(other.stem for other in path.parent.glob("*.ckpt"))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    there = nearest(named, names) or (f"; there are: {', '.join(names[:SHOWN])}{more}" if names else "")
    return InputError(f"checkpoint={named}: no such file, and no checkpoint in {path.parent} is called so{there}")


def _unfinished(name: str, output_dir: Path) -> Path | None:
    """The folder of an unfinished run of this name, or of a stage of it."""
    for command in ("train", "mimic"):
        for ending in ("", "_stage2", "_stage1"):
            run = output_dir / command / f"{name}{ending}"
            if (run / "identity.json").is_file() and not (run / "results.json").exists():
                return run
    return None
