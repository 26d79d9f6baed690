"""What examples/ shows runs from top to bottom."""

import json
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS = {"mimic_with_timm": "timm", "mimic_with_lightning": "lightning"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asserts what it shows."""
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if path.stem in NEEDS:  # other libraries' warnings of each other are not ours to mend
            warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells one after the other, as a kernel runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSHFM_CACHE", str(tmp_path / "stores"))
    notebook = json.loads((EXAMPLES / "from_training_to_predictions.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert 0 <= names["student"].score <= 100
    assert names["student"].stage == "2"
    assert names["model"].features(names["pictures"]).shape == (4, 64)
