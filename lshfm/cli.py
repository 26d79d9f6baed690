"""The command line: picks the command, hands the rest to Hydra, turns errors into messages and exit codes."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from lshfm import __version__, console, outcome
from lshfm.config import slips, sweeping
from lshfm.config.catalogue import register_teachers
from lshfm.config.early import is_one_of_many
from lshfm.config.launch import answer, explained, launch
from lshfm.config.orders import order
from lshfm.config.repeat import with_settings
from lshfm.config.slips import refuse_slips
from lshfm.config.words import folders_of, refuse_foreign_recipes, rewrite, without_launcher
from lshfm.errors import InputError, LshfmError, nearest

COMMANDS = {
    "train": "train a classifier on labels: a teacher, or a student alone",
    "mimic": "distil: a student learns to mimic a trained teacher's features",
    "eval": "evaluate a checkpoint: every metric, each class, at any threshold",
    "predict": "labels of your pictures by a trained network, with probabilities",
    "export": "a trained network for ONNX Runtime, PyTorch, torchvision or timm",
    "check": "read all of a data set and list what is wrong with it",
    "runs": "list runs, compare two, see what could be deleted",
    "report": "runs side by side: a page with pictures, a table for papers",
    "recipes": "list the published experiments and the command of each",
}
WAY = {
    "lshfm check D": "finds faults in the data",
    "lshfm train D model=resnet34 model.weights=imagenet": "the teacher",
    "lshfm mimic D teacher=resnet34 student=resnet18 \\": "the student, from",
    "    student.weights=imagenet": "downloaded weights",
    "lshfm report outputs": "writes report.html",
    "lshfm predict NAME input=photos": "NAME: see lshfm runs",
    "lshfm export NAME format=onnx": "for use without lshfm",
}
WITHOUT_SETTINGS = {"recipes", "report", "runs"}  # commands that compose no settings
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
    if len(argv) > 1 and "help" in argv[:2]:
        other = argv[1] if argv[0] == "help" else argv[0]
        argv = [other, "--help", *argv[2:]]
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"lshfm {__version__}")
        return 0
    if argv[0] in {"completion", "--complete"}:
        _complete(argv[0], argv[1:])
        return 0
    command, rest = argv[0], argv[1:]
    if command not in COMMANDS and command in slips.COMMANDS:
        raise InputError(f"no such command: {command}; {slips.COMMANDS[command]} (lshfm --help)")
    if command not in COMMANDS:
        raise InputError(
            f"no such command: {command}{nearest(command, COMMANDS)}. There are: {', '.join(COMMANDS)} (lshfm --help)"
        )
    if command in WITHOUT_SETTINGS:
        import_module(f"lshfm.commands.{command}").run(rest)
        return 0
    asks_for_help = bool({"-h", "--help"} & set(rest))
    rest = [word for word in rest if word not in {"-h", "--help"}]
    shown = _without_settings_flag(rest)
    if asks_for_help or shown is not None:
        rest = without_launcher(rest if shown is None else shown)
        rest = sweeping.without_sweep(rest)
    refuse_slips(command, rest)
    rest = with_settings(command, rest)
    refuse_foreign_recipes(command, rest)
    register_teachers(folders_of(rest))
    if command in sweeping.COMMANDS and sweeping.is_sweep(rest):
        if sweeping.is_side_by_side(rest):
            _set_argv(command, rest)
            import_module("lshfm.sweeps.start").run(command, rest, ["lshfm", *argv])
            return 0
        if not is_one_of_many() and not sweeping.has_sweeper(rest):
            _launch_sweep(command, rest, ["lshfm", *argv])
            return 0
        rest = sweeping.for_hydra(rest)
    _set_argv(command, rewrite(command, rest))
    if not asks_for_help and shown is None:
        launch(command, partial(_run, command, ["lshfm", *argv]), _submitted, partial(order, command, files=False))
        return 0
    work = partial(_help_of if asks_for_help else _settings_of, command)
    if not answer(command, work):
        launch(command, work, _submitted)
    return 0


def _launch_sweep(command: str, words: list[str], typed: list[str]) -> None:
    """Have a launcher of Hydra's run a sweep's jobs, with a summary in the end."""
    _set_argv(command, words)
    with import_module("lshfm.sweeps.launched").launched(command, words, typed) as for_hydra:
        _set_argv(command, rewrite(command, for_hydra))
        launch(command, partial(_run, command, typed), _submitted, partial(order, command, files=False))


def _complete(asked: str, words: list[str]) -> None:
    """Print a shell's script, or for such a script what the last word can become."""
    from lshfm.config.completion import candidates, script

    if asked == "completion":
        print(script(words), end="")
    else:
        print("\n".join(candidates(words, list(COMMANDS))))


def _overview() -> str:
    rows = "\n".join(f"  {name:<8}{text}" for name, text in COMMANDS.items())
    way = "\n".join(f"  {words:<53}{text}" for words, text in WAY.items())
    return (
        f"usage: {USAGE}\n\nDistil image models by mimicking features with locality-sensitive hashing.\n\n"
        f"commands:\n{rows}\n\nfrom data to predictions:\n{way}\n"
        "where D is dataset=manifest dataset.root=DIR dataset.holdout=0.2, and DIR has\n"
        "your images and train.csv with the columns path,labels. Without D they use\n"
        "small drawn pictures that come with lshfm.\n\n"
        "lshfm COMMAND --help explains a command's groups and keys; lshfm --version.\n"
        "lshfm completion bash|zsh|fish prints a script that makes Tab complete them.\n"
        "With nothing else, `lshfm train` trains a small network on an embedded data set."
    )


def _set_argv(command: str, argv: Sequence[str]) -> None:
    """What Hydra reads."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here as they are
    sys.argv = [f"lshfm {command}", *argv]


def _run(command: str, typed: list[str], overrides: list[str]) -> None:
    try:
        with explained(command):
            arguments = order(command, overrides, typed)  # before torch is imported
        import_module(f"lshfm.commands.{command}").run(*arguments)
    except LshfmError as error:
        outcome.complain(error)  # at once: in a sweep the other jobs go on
        raise


def _submitted(work: Callable[[], None]) -> None:
    import_module("lshfm.ranks.slurm").run(work)


def _help_of(command: str, overrides: list[str]) -> None:
    from lshfm.config.help import command_help, terminal_width

    with explained(command):
        print(command_help(command, overrides, terminal_width()))


def _settings_of(command: str, overrides: list[str]) -> None:
    from lshfm.config.help import settings_text

    with explained(command):
        print(settings_text(command, overrides))


def _without_settings_flag(words: list[str]) -> list[str] | None:
    """The words but for --cfg job; None where they do not hold it alone, for the rest is Hydra's to print."""
    flags = [[word, after] for word, after in zip(words, [*words[1:], ""], strict=False) if word in {"--cfg", "-c"}]
    asks = ["--cfg", "job"] in flags or ["-c", "job"] in flags or "--cfg=job" in words
    if not asks or {"-p", "--package"} & {word.partition("=")[0] for word in words}:
        return None
    return [word for word in words if word not in {"--cfg", "-c", "job", "--cfg=job", "--resolve"}]


if __name__ == "__main__":
    sys.exit(main())
