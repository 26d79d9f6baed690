"""`make bench` at its shortest: parts give figures, and are not run again."""

import json
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import main


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_parts_give_figures_and_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--short", "--json", str(tmp_path / "figures.json"), "--folder", str(tmp_path / "work")]
    parts = ["gates", "loader", "augmentation", "step_resnet14_resnet8_8_stage2", "end_to_end_resnet8_8"]
    parts += ["cifar_train", "detection_step", "detection_train", "detection_eval", "retinanet_lsh"]
    assert main([*parts, *words]) == 0
    found = json.loads((tmp_path / "figures.json").read_text())["parts"]
    assert list(found) == parts
    assert all(gate["passed"] in (True, None) for gate in found["gates"]["figures"].values())
    arms = found[parts[3]]["arms"]
    assert {"P0", "exact fp32", "+ tape"} <= arms.keys()
    assert all(arm["images_per_second"] > 0 and arm["to_roofline"] > 0 for arm in arms.values())
    assert found[parts[4]]["arms"]["tool, exact"]["to_published"] > 0
    assert found["cifar_train"]["arms"]["tool, exact"]["images_per_second"] > 0
    assert 95 < sum(found["detection_step"]["percent"]["tool, exact"].values()) < 105
    for name in ("detection_step", "detection_train", "detection_eval"):
        assert (
            found[name]["arms"]["tool, exact"]["images_per_second"] > 0 < found[name]["arms"]["torchvision"]["rounds"]
        )
    term = found["retinanet_lsh"]["figures"]["bf16"]
    assert term["operations"] == 3 * 2 * (8 * 8 + 4 * 4 + 2 * 2 + 1 + 1) * 9 * 16 * 64
    assert term["hash_agreement_bf16"] > 99
    capsys.readouterr()
    assert main([*parts, *words]) == 0
    assert capsys.readouterr().err.count("there already") == len(parts)
