"""The fast tests under several Pythons and versions of torch, each in an environment of its own (`make test-matrix`).

python benchmarks/matrix.py python3.11 python3.12 --torch 2.13.* --torch 2.14.*

Without --torch: the oldest torch that pyproject.toml allows, and the newest there is.
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ".[dev,docs,timm,slurm,export,optuna,report,tensorboard]"


def environment(python: str, torch: str | None) -> Path:
    """The interpreter of an environment with lshfm and all that its tests need, made if it is not there."""
    folder = ROOT / "-".join([".venv", Path(python).name, *([torch.strip(".*=")] if torch else [])])
    own = folder / "bin/python"
    if not (folder / ".installed").exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
        wanted = [f"torch=={torch}"] if torch else []
        subprocess.run([own, "-m", "pip", "install", "--quiet", "--editable", EXTRAS, *wanted], check=True, cwd=ROOT)
        (folder / ".installed").touch()
    return own


def oldest() -> str:
    """The oldest torch that is supported, as pip takes it."""
    found = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert found
    return f"{found[1]}.*"


def is_there(python: str) -> bool:
    """Whether an interpreter runs: pyenv has commands on the path for versions that are not switched on."""
    return bool(shutil.which(python)) and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def passes(python: str, torch: str | None) -> bool:
    """Whether the fast tests pass there; an environment that cannot be made fails."""
    try:
        own = environment(python, torch)
    except subprocess.CalledProcessError as error:
        print(f"no environment: {error}", file=sys.stderr)
        return False
    words = ["-m", "pytest", "-m", "not slow and not gpu", "-n", "2", "--dist", "loadfile", "-q"]
    return subprocess.run([own, *words], cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """Run all of them and print a line each; 1 if one has failed, or if there is no interpreter at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+")
    parser.add_argument("--torch", action="append", help="versions of torch, as 2.13.*")
    arguments = parser.parse_args()
    there = [python for python in arguments.pythons if is_there(python)]
    for python in arguments.pythons:
        if python not in there:
            print(f"{python}: not installed; PYTHONS='PATH ...' takes interpreters by their paths", flush=True)
    found = {pair: passes(*pair) for pair in itertools.product(there, arguments.torch or [oldest(), None])}
    for python, torch in found:
        print(f"{python}, torch {torch or 'newest'}: {'passed' if found[python, torch] else 'FAILED'}")
    return 0 if found and all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
