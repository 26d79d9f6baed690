"""The shape of the code: what may import what, and how long things are."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lshfm

PACKAGE = Path(lshfm.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"datasets", "losses", "metrics"}
MAY_USE = {  # room -> what of lshfm it may import besides itself
    **{leaf: {"errors"} for leaf in LEAVES},
    "files": {"errors"},
    "models": {"files", "errors"},
    "objectives": {"models", "losses", "ranks", "errors"},
    "engine": {"console", "files", "ranks", "errors"},
    "ranks": {"config", "console", "outcome", "errors"},
    "report": {"console", "metrics", "errors"},
    "config": {"console", "errors"},
    "console": set(),
    "outcome": {"errors"},
    "errors": set(),
}
DOOR = {"cli", "config"}


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
    if room(path) in MAY_USE:
        assert rooms_used(path) <= MAY_USE[room(path)] | {room(path)}


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
    assert {room(path) for path in FILES} == set(MAY_USE) | {
        "__init__",
        "__main__",
        "cli",
        "commands",
        "mimicking",
        "runs",
        "tasks",
    }


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("lshfm.cli", ["torch", "torchvision", "PIL", "timm"]),  # so that --help and --cfg answer at once
        ("lshfm.config.compose", ["torch", "torchvision"]),
        ("lshfm.datasets.decode", ["torch", "torchvision", "hydra"]),  # so that decode workers start fast
        ("lshfm.datasets.store", ["torch", "torchvision", "hydra"]),
        ("lshfm.metrics.multilabel", ["torch", "hydra"]),
    ],
)
def test_what_an_import_does_not_bring(module: str, without: list[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set({without}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
