"""What examples/own/ shows of parts of one's own, together, by the real commands that docs/adding.md shows."""

import json
from pathlib import Path

import pytest

from lshfm.config.compose import compose, conf_folder
from lshfm.config.groups import Network
from lshfm.config.schema import Train
from tests.cli.conftest import here

OWN = Path(__file__).resolve().parents[1] / "examples/own"
COMMON = ("--config-dir", str(OWN / "conf"), "dataset=stripes", "gpus=[]", "workers=0")


def test_parts_of_ones_own_compose_with_the_keys_of_their_files() -> None:
    with conf_folder([OWN / "conf"]):
        settings = compose(Train, ["dataset=stripes", "model=tiny", "model.width=8"]).settings
    assert (settings.dataset.task, settings.dataset.metric, settings.loss.option) == ("graded", "within_one", "ce")
    assert isinstance(settings.model, Network)
    assert settings.model.own["width"] == 8


@pytest.mark.slow
def test_loss_network_data_set_and_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher of ours, a student of one's own with a projection to its width, the task's own score in the record."""
    monkeypatch.syspath_prepend(str(OWN))
    here(tmp_path, "train", *COMMON, "model=resnet8", "epochs=2", "name=teacher")
    said = here(
        tmp_path, "mimic", *COMMON, "teacher=teacher", "student=tiny", "loss=cosine", "epochs=1", "name=student"
    )
    assert "cosine" in said
    (found,) = (tmp_path / "outputs/mimic").glob("student*/results.json")
    results = json.loads(found.read_text())
    assert (results["metric"], 0 <= results["score"] <= 100) == ("within_one", True)
    assert results["report"]["within one"] == results["score"]
    assert results["report"]["mimicry"]["angle"] < 90
    lines = [json.loads(line) for line in found.with_name("metrics.jsonl").read_text().splitlines()]
    assert any("cosine" in json.dumps(line) for line in lines)
