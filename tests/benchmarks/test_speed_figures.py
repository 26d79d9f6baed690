"""The benchmark's arithmetic: the roofline of a tiny network by hand, medians, resumed parts, voided arms."""

import io
import json
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import gpu_check
from benchmarks.speed import arms, gates, opening, roofline, tool
from benchmarks.speed.__main__ import main
from benchmarks.speed.arms import Made, Watched
from benchmarks.speed.fidelity import fidelity
from benchmarks.speed.parts import Context, parts
from benchmarks.speed.photos import QUALITY, make_photos, photo
from benchmarks.speed.plot import growth
from benchmarks.speed.results import Record, failed, ratios, voided
from benchmarks.speed.roofline import Layer, Work, forward_work, layers, least_seconds, training_work
from benchmarks.speed.tables import markdown
from benchmarks.speed.timing import interleaved, summary
from lshfm.engine.compiled import Compiled
from tests.recording import RecordedGraphs

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


def test_an_arm_that_finds_no_room_is_left_out() -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert list(interleaved({"a": lambda: None, "b": full}, rounds=1, steps=1)) == ["a"]


def test_an_arm_knows_what_it_goes_without(tmp_path: Path) -> None:
    """Else eager steps would be counted as captured ones."""
    network = Compiled(nn.ReLU(), lambda function: function)
    assert not Made(lambda: None, compiled=[network]).lacks
    network.give_up()
    assert Made(lambda: None, Watched(), [network]).lacks == "not captured and not compiled"
    said = ["speed=fast on cuda:0: bf16", "the step is not captured, it goes eagerly: why", "train on a: 2 images"]
    (tmp_path / "said.txt").write_text("\n".join(said))
    assert tool.goes_without(tmp_path) == said[1:2]


def test_gates_that_no_part_has_checked_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[dict[str, gates.Gate]] = []
    monkeypatch.setattr(gates, "check", lambda: checked.append({"tape": {"passed": False}}) or checked[-1])
    context = Context(tmp_path, short=True, known={})
    assert context.broken() == context.broken() == {"tape"}
    assert len(checked) == 1
    assert Context(tmp_path, True, {"gates": {"figures": {"tape": {"passed": True}}}}).broken() == set()


def test_the_gate_of_pixels_sees_what_steps_see(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gates.pixels() == {"passed": True, "largest_difference": 0, "share": 0.0, "by_kernels": False}
    view = gates.FusedView.__call__
    monkeypatch.setattr(gates.FusedView, "__call__", lambda *words, **keys: view(*words, **keys) + 0.02)
    assert gates.pixels()["passed"] is False


class Recorded(RecordedGraphs):
    """As the benchmark's graphs, on a CPU."""

    def __init__(self, _pool: object) -> None:
        super().__init__()

    @property
    def has_recorded(self) -> bool:
        return self.recorded > 0


@pytest.mark.parametrize("breaks", [False, True])
def test_the_gate_of_graphs_compares_steps_with_one_optimiser(breaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(gates, "Pair", lambda *_: arms.Pair("resnet8", "resnet8", 4, 16, 2))
    monkeypatch.setattr(arms, "Watched", Recorded)
    if breaks:
        monkeypatch.setattr(Recorded, "record", lambda *_: 1 / 0)
    found = gates.graph()
    assert found == {"passed": not breaks, "largest_relative_difference": 0.0, "lacks": "not captured" * breaks}


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
    record.keep("step", {"arms": found}, {"device": "D", "processor": "P", "cores": 2, "torch": "2"}, 1.0)
    record.keep("loader", {"figures": {"disk": {"images_per_second": 43600.0}, "device": {"per_core": 2}}}, {}, 1.0)
    record.keep("machine", {"figures": {"copy_bytes": 3e9, "fp32_flops": 8e12, "is_on": True}}, {}, 1.0)
    record.keep("bias", {"error": "ValueError: x"}, {}, 1.0)
    for images in (10, 100):
        record.keep(f"scaling_{images}", {"figures": GROWN | {"images": images}}, {}, 1.0)
    shown = markdown(record.parts)
    for line in (
        "D (P, 2 cores); torch 2, Python None.",
        "| step | ours | 25 | - | 2.5 | - | 0.5 | 50 | - |",
        "| step | P0 | 10 | 9 to 11 | 1 | - | 0.1 | 100 | - |",
        "| step | void | gate graph failed | - | - | - | - | - | - |",
        "|  | images per second | per core |", "| disk | 43,600 | - |", "| device | - | 2 |",
        "| copy GB/s | 3 |", "| fp32 GFLOP/s | 8000 |", "| is on | yes |",
        "**bias** failed: ValueError: x",
        "| images | memory MiB | first start | second start | images per second |", "| 100 | 7 | 3 | 2 | 50 |",
    ):  # fmt: skip
        assert line in shown.splitlines()


GROWN = {"memory_MiB": 7, "first start": 3.0, "second start": 2.0, "images_per_second": 50.0}


def test_growth_is_drawn_the_same_every_time(tmp_path: Path) -> None:
    parts = {f"scaling_{images}": {"figures": GROWN | {"images": images}} for images in (1000, 100, 10)}
    assert not growth({"scaling_10": parts["scaling_10"], "machine": {}}, tmp_path / "none.svg")
    assert all(growth(parts, tmp_path / f"{name}.svg") for name in "ab")
    drawn = [(tmp_path / f"{name}.svg").read_text() for name in "ab"]
    assert drawn[0] == drawn[1]
    for text in ("time of an image in training", "host memory at the first step", "second start"):
        assert f"<!-- {text} -->" in drawn[0]


def test_a_tables_command_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "--json", str(tmp_path / "figures.json")]
    assert main(words) == 1
    Record(tmp_path / "figures.json", code="older", short=False).keep("bias", {"figures": {"rows": 3}}, {}, 1.0)
    assert main(words) == 0
    assert "| rows | 3 |" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "figures.json").read_text())["parts"]) == ["bias"]


def test_a_teacher_that_has_learnt_is_about_the_same_in_bf16() -> None:
    found = fidelity("resnet8", 32, 64, 20)
    assert found["hash_agreement"] > 97
    assert abs(found["mAP_fp32"] - found["mAP_bf16"]) < 1
    assert found["mAP_fp32"] > 55  # half of all labels are there


def test_a_second_start_opens_what_the_first_one_made(tmp_path: Path) -> None:
    found = opening.seconds(tmp_path, 40)
    assert set(found) == {
        "images",
        *(f"{start}: {what}" for start in ("first", "second") for what in ("seconds", "of_a_core")),
    }
    assert len(list((tmp_path / "coco40_stores").glob("*.npy"))) == 1


def test_every_part_is_known_to_gpu_check() -> None:
    assert {"bench_short", "train_fast", "mimic_fast"} <= gpu_check.PARTS.keys()
    assert all(gpu_check.LIMITS.get(name, 0) <= 180 for name in gpu_check.PARTS)
    patterns = (*gpu_check.IN_PROCESS, *gpu_check.RUNS)
    assert [name for name in parts(short=True) if sum(fnmatch(name, pattern) for pattern in patterns) != 1] == []
    names = {"gates", "opening", "memory_1", "memory_2", "scaling_40", "end_to_end_resnet14_resnet8_8_stage1"}
    assert names <= parts(short=True).keys()


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
