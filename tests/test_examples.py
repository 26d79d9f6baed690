"""What examples/ shows runs from top to bottom."""

import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS = {"mimic_with_timm": "timm", "mimic_with_lightning": "lightning"}


COSTLY = {"mimic_with_lightning"}  # importing it takes longer than all others together
CASES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in COSTLY))
    for path in sorted(EXAMPLES.glob("*.py"))
]


@pytest.mark.parametrize("path", CASES)
def test_an_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asserts what it shows."""
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if path.stem in NEEDS:  # other libraries' warnings of each other are not ours to mend
            warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")


IN_A_KERNEL = """
import sys
import nbclient, nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "done.ipynb")
"""


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """From top to bottom in Jupyter's kernel; without ipywidgets the log's lines stand in for bars, and no warning."""
    pytest.importorskip("nbclient")
    program = [sys.executable, "-c", IN_A_KERNEL, str(EXAMPLES / "from_training_to_predictions.ipynb")]
    surroundings = os.environ | {"LSHFM_CACHE": str(tmp_path / "stores"), "PYTHONPATH": str(EXAMPLES.parent)}
    ended = subprocess.run(program, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    cells = [cell for cell in json.loads((tmp_path / "done.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    said = "".join(map(_text, outputs))
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "Warning" not in said  # of Python's; rich has one on what it lacks
    assert "ipywidgets" not in said
    assert "epoch 1/1" in said
    assert "(4, 64)" in _text(outputs[-1])


def _text(output: dict[str, Any]) -> str:
    return "".join(output.get("text") or output["data"]["text/plain"])
