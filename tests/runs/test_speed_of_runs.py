"""What speed=fast comes to on a machine, for a run's length and settings."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Mimic, Train
from lshfm.engine.graphs import CudaGraphs
from lshfm.ranks import device as devices
from lshfm.runs import speed as speeds
from lshfm.runs.naming import train_name
from lshfm.runs.speed import Speed, speed_of

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with all that speed=fast can use, but for what is given."""

    def lacking(*, bf16: bool = True, compiler: str = "", ranks: int = 1, launched: bool = False) -> None:
        monkeypatch.setattr(speeds, "is_better_in_bf16", lambda device: bf16)
        monkeypatch.setattr(speeds, "missing_compiler", lambda device: compiler)
        monkeypatch.setattr(speeds, "num_ranks", lambda: ranks)
        monkeypatch.setattr(speeds.dist, "is_initialized", lambda: launched)

    lacking()
    return lacking


def settings(*words: str) -> Train:
    with conf_folder():
        return compose(Train, ["speed=fast", "dataset.size=448", "epochs=30", "batch_size=16", *words]).settings


def test_the_published_run_has_all_of_it(machine: Any) -> None:
    found = speed_of(settings(), GPU, 5011)
    assert found == Speed("bf16", fused=True, captured=True, compiled=True)
    assert isinstance(found.graphs, CudaGraphs)


@pytest.mark.parametrize("words", [[], ["precision=bf16"]])
def test_exact_is_what_the_keys_say(words: list[str], machine: Any) -> None:
    found = speed_of(settings("speed=exact", *words), GPU, 5011)
    assert found == Speed("bf16" if words else "fp32")
    assert found.graphs is None


def test_what_is_typed_wins(machine: Any) -> None:
    assert speed_of(settings("precision=fp32"), GPU, 5011).precision == "fp32"
    assert not settings("channels_last=false").channels_last
    machine(bf16=False)
    assert speed_of(settings("precision=bf16"), GPU, 5011).precision == "bf16"


@pytest.mark.parametrize(
    ("lacks", "device", "words", "images", "found", "notes"),
    [
        ({}, GPU, [], 500, {"compiled": False},
         ["nothing is compiled: at 448 px that pays from 140,000 images on, and this run sees 15,000"]),
        ({"compiler": "there is no C compiler here (gcc)"}, GPU, [], 5011, {"compiled": False},
         ["nothing is compiled: there is no C compiler here (gcc)"]),
        ({"bf16": False}, GPU, [], 5011, {"precision": "fp32"}, ["fp32: this GPU is not faster in bf16"]),
        ({"ranks": 4}, GPU, ["batch_size=256"], 5011, {"captured": False},
         ["with 4 ranks the step is not captured: the gradients' way between them is not recorded"]),
        ({"ranks": 4}, GPU, [], 5011, {"captured": False, "precision": "fp32"},
         ["fp32: for so few pixels at a time bf16 takes longer, unless the step is captured",
          "with 4 ranks the step is not captured: the gradients' way between them is not recorded"]),
        ({"ranks": 4}, GPU, ["batch_size=256", "sync_bn=true"], 5011, {"captured": False, "compiled": False},
         ["with 4 ranks the step is not captured: the gradients' way between them is not recorded",
          "nothing is compiled: with sync_bn=true ranks wait for each other within the networks"]),
        ({"launched": True}, GPU, [], 5011, {"captured": False, "precision": "fp32"},
         ["fp32: for so few pixels at a time bf16 takes longer, unless the step is captured",
          "a rank that a launcher started is not captured, even alone: its gradients go through a group of ranks"]),
        ({}, GPU, ["accumulate=4"], 5011, {}, []),
        ({"bf16": False}, CPU, [], 5011, {"precision": "fp32", "captured": False, "compiled": False},
         ["fp32: this CPU is not faster in bf16",
          "a CPU has no graphs to capture the step in: it goes operation by operation",
          "nothing is compiled: for a CPU that takes minutes, and the step is as fast without"]),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_left_out_with_a_line(
    lacks: dict[str, Any], device: torch.device, words: list[str], images: int, found: dict[str, Any],
    notes: list[str], machine: Any,
) -> None:  # fmt: skip
    machine(**lacks)
    whole = Speed("bf16", fused=True, captured=True, compiled=True)
    assert speed_of(settings(*words), device, images) == replace(whole, **found, notes=tuple(notes))


def test_batches_of_varied_shapes_are_not_captured_and_compile_the_teacher_alone(
    machine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with conf_folder():
        words = ["speed=fast", "dataset=voc0712", "dataset.root=.", "loss=lshl2"]
        mimic = compose(Mimic, words).settings
    found = speed_of(mimic, GPU, 16_551, varied=True)
    eager = "the step is not captured: the shapes of its batches vary"
    assert found == Speed("bf16", fused=True, compiled=True, varied=True, notes=(eager,))
    alone = speed_of(settings("batch_size=32"), GPU, 5011, varied=True)
    assert alone.notes == (eager, "nothing is compiled: the shapes of batches vary, and there is no teacher")
    with caplog.at_level(logging.INFO, "lshfm"):
        found.log(mimic, GPU)
    assert caplog.messages[0] == "speed=fast on cuda:0: bf16, fused optimiser, teacher compiled"


def test_it_is_said_and_exact_says_nothing(machine: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lshfm"):
        for words in ([], ["speed=exact"]):
            chosen = settings(*words)
            speed_of(chosen, GPU, 5011).log(chosen, GPU)
    assert caplog.messages == [
        "speed=fast on cuda:0: bf16, fused optimiser, teacher and student compiled, the step captured as one CUDA graph"
    ]


@pytest.mark.parametrize("better", [True, False])
def test_a_cpu_is_asked_for_its_instructions(better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: better)
    devices.is_better_in_bf16.cache_clear()
    assert devices.is_better_in_bf16(CPU) == better
    assert devices.settled("auto", CPU) == ("bf16" if better else "fp32")
    assert devices.settled("fp32", CPU) == "fp32"
    devices.is_better_in_bf16.cache_clear()


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert devices.missing_compiler(CPU) == "there is no C++ compiler here (g++, clang++)"
    monkeypatch.setenv("CXX", "c++-9")
    assert devices.missing_compiler(CPU) == "there is no C++ compiler here (c++-9)"
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert devices.missing_compiler(GPU) == "this torch comes without triton"


def test_names_and_values() -> None:
    """What fast sets by itself is not in the name, as it was not typed."""
    with conf_folder():
        jobs = [compose(Train, words) for words in ([], ["speed=fast"], ["speed=fast", "precision=fp32"])]
    assert [job.settings.precision for job in jobs] == ["fp32", "auto", "fp32"]
    stem = "shapes_resnet20_bce_s0"
    assert [train_name(job) for job in jobs] == [stem, f"{stem}_speed-fast", f"{stem}_precision-fp32_speed-fast"]
