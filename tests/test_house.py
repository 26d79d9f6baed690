"""The shape of the code: what may import what, and how long things are."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lshfm
from lshfm import cli

PACKAGE = Path(lshfm.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"datasets", "losses", "metrics"}
MAY_USE = {  # room -> what of lshfm it may import besides itself
    **{leaf: {"checks", "errors"} for leaf in LEAVES},
    "datasets": {"checks", "errors", "files"},
    "files": {"checks", "errors"},
    "models": {"files", "checks", "errors"},
    "objectives": {"models", "losses", "ranks", "errors"},
    "engine": {"console", "files", "ranks", "errors"},
    "ranks": {"checks", "console", "outcome", "errors"},
    "report": {"console", "metrics", "errors"},
    "tracking": {"engine", "ranks", "console", "files", "errors"},
    "config": {"checks", "console", "errors"},
    "console": set(),
    "outcome": {"errors"},
    "checks": {"errors"},
    "errors": set(),
}
BELOW = set(MAY_USE)  # upstairs a room may use all that is further down
for upper in ("tasks", "runs", "mimicking", "sweeps", "shipping", "commands"):
    MAY_USE[upper] = set(BELOW)
    BELOW.add(upper)
MAY_USE |= {
    "cli": {"commands", "sweeps", "config", "console", "outcome", "errors"},
    "api": {"commands", "shipping", "runs", "config", "console", "errors"},
    "__main__": {"cli"},
    "__init__": {"api", "errors"},  # the package's face; its version is known to all
}
FLOORS = [  # from the roof to the ground
    {"__main__", "__init__"},
    {"cli", "api"},
    {"commands"},
    {"shipping"},
    {"sweeps"},
    {"mimicking"},
    {"runs"},
    {"tasks"},
    {"config", "tracking"},
    {"engine", "objectives", "report"},
    {"ranks", "models"},
    {"datasets", "losses", "metrics", "console", "outcome"},
    {"files"},
    {"checks"},
    {"errors"},
]
DOOR = {"cli", "config"}
SETTINGS = {"values", "settings", "dataset", "student", "teacher", "loss", "model", "job"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_used(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported(path)]
    return {dotted[1] for dotted in parts if dotted[0] == "lshfm" and dotted[1] != "__version__"}


def names(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=names)
def test_imports_point_down(path: Path) -> None:
    assert rooms_used(path) <= MAY_USE[room(path)] | {room(path)}


def test_no_arrow_runs_up_and_there_is_no_circle() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    assert sum(map(len, FLOORS)) == len(floor)
    assert [(user, used) for user, rooms in MAY_USE.items() for used in rooms if floor[used] <= floor[user]] == []


def test_only_the_command_line_imports_by_name() -> None:
    """An import that is made of a text is seen by no check of these."""
    by_name = [names(path) for path in FILES if any(name.startswith("importlib.import") for name in imported(path))]
    assert by_name == ["cli.py"]


def test_every_command_is_one_module() -> None:
    found = {names(path) for path in FILES if room(path) == "commands"}
    commands = ["train", "mimic", "eval", "predict", "export", "check", "runs", "report", "recipes"]
    assert list(cli.COMMANDS) == commands
    assert found == {"commands/__init__.py", *(f"commands/{command}.py" for command in cli.COMMANDS)}


def subscripts(tree: ast.AST) -> Iterator[str]:
    """Where settings, or a part of them, are asked for a key by its name in quotes."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
        ):
            holder = node.value
            name = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", None)
            if name in SETTINGS:
                yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_settings_are_attributes(path: Path) -> None:
    """What a key in quotes means is known to no type checker."""
    if room(path) != "config":
        assert list(subscripts(ast.parse(path.read_text()))) == []


def test_a_subscript_of_settings_is_found() -> None:
    found = subscripts(ast.parse("a = values['lr'] + self.job.settings['lr'] + content['loss'] + teacher[0]"))
    assert sorted(found) == ["self.job.settings['lr']", "values['lr']"]


@pytest.mark.parametrize("path", FILES, ids=names)
def test_only_the_door_knows_hydra(path: Path) -> None:
    if room(path) not in DOOR:
        assert {name.split(".")[0] for name in imported(path)} & {"hydra", "omegaconf"} == set()


@pytest.mark.parametrize("path", FILES, ids=names)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
    assert [f.name for f in functions if length(f) > 60] == []


def length(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def test_the_loop_reads_in_one_go() -> None:
    tree = ast.parse((PACKAGE / "engine" / "loop.py").read_text())
    (fit,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "fit")
    assert length(fit) <= 60


def test_every_room_is_known() -> None:
    """A new room has to say above what it may use."""
    assert {room(path) for path in FILES} == set(MAY_USE) == set().union(*FLOORS)


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("lshfm", ["torch", "torchvision", "PIL", "hydra", "omegaconf", "numpy", "rich"]),
        ("lshfm.api", ["torch", "torchvision", "PIL", "hydra", "numpy"]),
        ("lshfm.cli", ["torch", "torchvision", "PIL", "timm"]),  # so that --help and --cfg answer at once
        ("lshfm.config.compose", ["torch", "torchvision"]),
        ("lshfm.config.schema", ["torch", "torchvision", "hydra", "omegaconf"]),
        ("lshfm.datasets.decode", ["torch", "torchvision", "hydra"]),  # so that decode workers start fast
        ("lshfm.datasets.store", ["torch", "torchvision", "hydra"]),
        ("lshfm.datasets.folders", ["torch", "torchvision", "hydra"]),  # so do those of folders of classes
        ("lshfm.datasets.random_crop", ["torch", "torchvision", "hydra"]),
        ("lshfm.datasets.whole", ["torch", "torchvision", "hydra"]),
        ("lshfm.metrics.multilabel", ["torch", "hydra"]),
    ],
)
def test_what_an_import_does_not_bring(module: str, without: list[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set({without}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
