"""The benchmark's arithmetic: the roofline of a tiny network by hand, medians, resumed parts, voided arms."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.speed import roofline
from benchmarks.speed.photos import QUALITY, make_photos, photo
from benchmarks.speed.results import Record, failed, ratios, table, voided
from benchmarks.speed.roofline import Layer, Work, forward_work, layers, least_seconds, training_work
from benchmarks.speed.timing import interleaved, summary

B, S = 2, 6


class Tiny(nn.Module):
    """A convolution (3 -> 4, 3x3, stride 2, so 6 px become 3), the mean, a classifier (4 -> 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.norm(self.conv(images)).relu().mean((2, 3))
        return feature, self.classifier(feature)


def tiny() -> list[Layer]:
    with torch.device("meta"):
        return layers(Tiny(), B, S)


def test_layers_are_counted_by_hand() -> None:
    conv, classifier = tiny()
    assert conv == Layer("conv", (B * 4 * 3 * 3) * 27, B * 3 * 6 * 6, B * 4 * 3 * 3, 4 * 27)
    assert classifier == Layer("classifier", B * 5 * 4, B * 4, B * 5, 20)


def test_a_steps_work_by_hand() -> None:
    """72 outputs of 27 products each, then 10 of 4; numbers of 4 bytes."""
    conv, classifier = tiny()
    assert forward_work([conv], 4) == [Work(2 * 72 * 27, 4 * (216 + 72 + 108))]
    assert training_work([conv, classifier], 4) == [
        Work(3888, 4 * 396),
        Work(3888, 4 * (216 + 72 + 216)),  # no gradient of the images: half the products, and nothing written
        Work(80, 4 * (8 + 10 + 20)),
        Work(160, 4 * (16 + 10 + 40)),
        Work(0, 4 * 5 * 128),
    ]
    assert forward_work([conv], 2)[0].bytes == 2 * 396


def test_each_layer_is_bound_by_what_takes_longer() -> None:
    work = [Work(100, 10), Work(10, 100)]
    assert least_seconds(work, operations_per_second=10, bytes_per_second=10) == 10 + 10
    assert least_seconds(work, operations_per_second=1000, bytes_per_second=10) == pytest.approx(1 + 10)


def test_bounds_of_stages() -> None:
    limits = {"fp32_flops": 1e9, "bf16_flops": 2e9, "copy_bytes": 1e12}
    with torch.device("meta"):
        both, alone = (roofline.bound(each, Tiny(), B, S, limits, "fp32", stage=2) for each in (Tiny(), None))
    seconds = (3888 + 3888 + 80 + 160) / 1e9 + 4 * 5 * 128 / 1e12
    assert alone == pytest.approx(B / seconds)
    assert both == pytest.approx(B / (seconds + (3888 + 80) / 1e9))


def test_medians_and_spread() -> None:
    assert summary([0.5, 0.1, 0.25], 10) == {"images_per_second": 40.0, "spread": [20.0, 100.0], "rounds": 3}


def test_arms_take_turns() -> None:
    calls: list[str] = []
    seconds = interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2, steps=2, warm_up=1)
    assert "".join(calls) == "ab" + "aabb" * 2
    assert {name: len(own) for name, own in seconds.items()} == {"a": 2, "b": 2}
    interleaved({"a": lambda: calls.append("c")}, rounds=9, steps=1, warm_up=0, limit=-1)
    assert calls.count("c") == 1  # out of time, but for the first round


def test_finished_parts_are_kept_for_the_same_code(tmp_path: Path) -> None:
    path = tmp_path / "results" / "machine.json"
    record = Record(path, code="a", short=False)
    record.keep("one", {"figures": {"x": 1}}, {"processor": "p"}, 2.0)
    record.keep("two", {"error": "ValueError"}, {}, 1.0)
    again = Record(path, code="a", short=False)
    assert (again.has("one"), again.has("two"), again.has("three")) == (True, False, False)
    assert not Record(path, code="b", short=False).has("one")
    assert not Record(path, code="a", short=True).has("one")
    assert json.loads(path.read_text())["parts"]["one"]["figures"] == {"x": 1}
    path.write_text("{")
    assert not Record(path, code="a", short=False).has("one")


def test_a_failed_gate_voids_the_arms_that_need_it() -> None:
    gates = failed({"pixels": {"passed": True}, "tape": {"passed": False}, "graph": {"passed": None}})
    assert gates == {"tape"}
    arm = {"images_per_second": 9.0, "gates": ["pixels", "tape"]}
    assert voided(arm, gates) == {"gates": ["pixels", "tape"], "void": "gate tape failed"}
    assert voided(arm | {"gates": ["pixels"]}, gates)["images_per_second"] == 9.0


def test_ratios_and_their_table(tmp_path: Path) -> None:
    arms = {"P0": {"images_per_second": 10.0, "bound": 100.0, "spread": [9.0, 11.0]},
            "ours": {"images_per_second": 25.0, "bound": 50.0}, "void": {"void": "gate graph failed"}}  # fmt: skip
    found = ratios(arms, "P0", None)
    assert (found["ours"]["to_published"], found["ours"]["to_roofline"]) == (2.5, 0.5)
    assert found["void"] == arms["void"]
    record = Record(tmp_path / "machine.json", code="a", short=False)
    record.keep("step", {"arms": found}, {}, 1.0)
    record.keep("loader", {"figures": {"y": 2}}, {}, 1.0)
    assert "| step | ours | 25.0 | - | 2.5 | 0.5 | - |" in table(record)
    assert "| step | void | - | gate graph failed | - | - | - |" in table(record)
    assert '- **loader**: {"y": 2}' in table(record)


def test_photos_are_as_large_as_photos_and_the_same_every_time(tmp_path: Path) -> None:
    """500 x 375 at quality 90 takes about 100 KB in VOC2007 and ImageNet."""
    buffer = io.BytesIO()
    photo(0).save(buffer, "JPEG", quality=QUALITY)
    assert 50_000 < len(buffer.getvalue()) < 200_000
    assert np.array_equal(np.asarray(photo(1, 50, 40)), np.asarray(photo(1, 50, 40)))
    folder = make_photos(tmp_path / "photos", 5, distinct=2)
    assert len((folder / "train.csv").read_text().splitlines()) == 6
    with Image.open(folder / "images/000004.jpg") as image:
        assert image.size == (500, 375)
