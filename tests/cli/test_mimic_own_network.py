"""A user's own network as teacher and as student, with the one projection that docs/adding.md describes."""

from pathlib import Path

import pytest

from tests.cli.conftest import here
from tests.jobs import SMALL

MODULE = """
from torch import nn

class Own(nn.Module):
    def __init__(self, num_classes, width, projection=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU())
        self.num_features = projection or width
        self.projection = nn.Linear(width, projection) if projection else None
        self.classifier = nn.Linear(self.num_features, num_classes)

    def raw_feature(self, images):
        return self.body(images).mean((2, 3))

    def forward(self, images):
        raw = self.raw_feature(images)
        feature = self.projection(raw) if self.projection else raw
        return feature, self.classifier(feature)
"""


@pytest.mark.slow
def test_own_networks_teach_and_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_a_width.py").write_text(MODULE)
    (tmp_path / "conf/model").mkdir(parents=True)
    for name, width in (("big", 12), ("small", 8)):
        (tmp_path / f"conf/model/{name}.yaml").write_text(f"_target_: net_of_a_width.Own\nwidth: {width}\n")
    monkeypatch.syspath_prepend(tmp_path)
    common = ["--config-dir", "conf", *SMALL, "batch_size=8", "epochs=1"]
    here(tmp_path, "train", *common, "model=big")
    said = here(tmp_path, "mimic", *common, "teacher=big", "student=small", "loss.hash_num=16", "name=own")
    assert "small: " in said
    assert "feature width 12" in said
    ended = here(
        tmp_path, "eval", "checkpoint=checkpoints/own_stage2.ckpt", "teacher=big", "--config-dir", "conf", "gpus=[]",
        "workers=0", "dataset.num_eval=6",
    )  # fmt: skip
    assert "evaluate on test: 6 of 6 images" in ended
    assert "teacher big" in ended
