"""A network that learnt from the middle of pictures is shown the middle of them."""

import json
from pathlib import Path

import numpy as np
import pytest

import lshfm
from tests.arrays import arrays
from tests.cli.conftest import here


@pytest.mark.slow
def test_predictions_are_those_of_the_evaluation(tmp_path: Path, test_data: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for folder in sorted((test_data / "imagenette" / split).iterdir())[:2]:
            (tmp_path / "data" / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                (tmp_path / "data" / split / folder.name / path.name).write_bytes(path.read_bytes())
    words = ("dataset=imagefolder", "dataset.root=data", "dataset.size=32", "gpus=[]", "workers=0", "name=a")
    here(tmp_path, "train", *words, "model=resnet8", "model.weights=none", "epochs=1", "batch_size=3")
    kept = arrays(tmp_path / "outputs/train/a/predictions.npz")
    paths = [tmp_path / "data/val" / str(name) for name in kept["ids"]]
    found = lshfm.load(tmp_path / "checkpoints/a.ckpt", device="cpu").predict([str(path) for path in paths])
    assert np.allclose([each.logits for each in found], kept["logits"], atol=1e-4)
    here(tmp_path, "export", "checkpoint=a", "format=safetensors", "workers=0")
    again = lshfm.load(tmp_path / "exports/a.safetensors", device="cpu").predict([str(path) for path in paths])
    assert np.allclose([each.logits for each in again], kept["logits"], atol=1e-4)
    described = json.loads((tmp_path / "exports/a.safetensors.json").read_text())["description"]
    assert described["fit"] == "crop"
