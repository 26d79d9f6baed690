"""The Python code of the pages runs, on the embedded set."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import here
from tests.documents import BLOCKS, Block

pytestmark = pytest.mark.slow
SMALL = ("dataset.num_train=64", "dataset.num_eval=32", "gpus=[]", "workers=0")
ELSEWHERE = {"docs/speed.md", "docs/detection.md"}  # part of a program; run where a trained detector is
PYTHON = [b for b in BLOCKS if b.info.split()[:1] == ["python"] and "title=" not in b.info and b.page not in ELSEWHERE]


def at(block: Block) -> str:
    return f"{block.page}:{block.line}"


def pictures(folder: Path) -> None:
    """What the pages call a.jpg and photos."""
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name in ("a.jpg", "b.png", "photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network NAME, what export makes of it, and pictures."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("used")
    pictures(folder)
    here(folder, "train", "model=resnet18", *SMALL, "epochs=1", "name=NAME")
    for name in ("onnx", "safetensors"):
        here(folder, "export", "NAME", f"format={name}")
    return folder


@pytest.mark.parametrize("block", PYTHON, ids=at)
def test_python_blocks_run(block: Block, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSHFM_CACHE", str(used / "stores"))
    with chdir(used):
        exec(compile(block.text, at(block), "exec"), {"__name__": "__main__"})
