"""The command line: picks the command, hands the rest to Hydra, turns errors into messages and exit codes."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from lshfm import __version__, console, outcome
from lshfm.config.launch import launch, recipe_command
from lshfm.config.teachers import register_teachers
from lshfm.config.words import config_folders, rewrite
from lshfm.errors import InputError, RunFailed, nearest

COMMANDS = {
    "train": "train a classifier on labels: a teacher, or a student alone",
    "mimic": "distil: a student learns to mimic a trained teacher's features",
    "eval": "evaluate a checkpoint: mAP by every definition, per class and at a threshold",
    "check": "read all of a data set and list what is wrong with it",
    "recipes": "list the published experiments and the command of each",
}
USAGE = "lshfm COMMAND [GROUP=OPTION] [KEY=VALUE] ..."


def main() -> int:
    """Run the command line; returns the exit code (0 done, 1 failed, 2 input, 130/143 signals)."""
    outcome.raise_on_sigterm()
    console.set_up()
    code = outcome.code_of(lambda: _dispatch(sys.argv[1:]))
    ranks: Any = sys.modules.get("lshfm.ranks.launch")
    if ranks:
        ranks.leave_if_joined(code)
    return code


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"lshfm {__version__}")
        return 0
    command, rest = argv[0], argv[1:]
    if command not in COMMANDS:
        raise InputError(
            f"no such command: {command}{nearest(command, COMMANDS)}. There are: {', '.join(COMMANDS)} (lshfm --help)"
        )
    if command == "recipes":
        import_module("lshfm.commands.recipes").run(rest)
        return 0
    asks_for_help = bool({"-h", "--help"} & set(rest))
    rest = [word for word in rest if word not in {"-h", "--help"}]
    if asks_for_help:  # it is no job to submit
        rest = [word for word in rest if not word.startswith(("hydra/launcher=", "hydra.launcher."))]
    _refuse_foreign_recipes(command, rest)
    register_teachers(config_folders(rest))
    _run_hydra(command, rewrite(rest), _help_of if asks_for_help else _run)
    return 0


def _overview() -> str:
    rows = "\n".join(f"  {name:<8}{text}" for name, text in COMMANDS.items())
    return (
        f"usage: {USAGE}\n\nDistil image models by mimicking features with locality-sensitive hashing.\n\n"
        f"commands:\n{rows}\n\nlshfm COMMAND --help explains a command's groups and keys; lshfm --version.\n"
        "With nothing else, `lshfm train` trains a small network on an embedded data set."
    )


def _refuse_foreign_recipes(command: str, argv: Sequence[str]) -> None:
    """A recipe names its command; say so, instead of what Hydra would say of an unknown group."""
    for word in argv:
        if not word.lstrip("+").startswith("experiment="):
            continue
        for name in word.partition("=")[2].strip("'\"").split(","):
            own = recipe_command(name)
            if own and own != command:
                raise InputError(f"experiment={name} is a recipe of another command: lshfm {own} experiment={name}")


def _run_hydra(command: str, argv: Sequence[str], task: Callable[[str, list[str]], None]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here as they are
    sys.argv = [f"lshfm {command}", *argv]
    launch(command, partial(task, command), _submitted)


def _run(command: str, overrides: list[str]) -> None:
    run: Any = import_module(f"lshfm.commands.{command}").run
    try:
        run(overrides)
    except (InputError, RunFailed) as error:
        outcome.complain(error)  # at once: in a sweep the other jobs go on
        raise


def _submitted(work: Callable[[], None]) -> None:
    import_module("lshfm.ranks.slurm").run(work)


def _help_of(command: str, overrides: list[str]) -> None:
    from lshfm.config.help import command_help

    print(command_help(command, overrides))


if __name__ == "__main__":
    sys.exit(main())
