"""Runs as reports know them, made by hand."""

from typing import Any

import numpy as np

from lshfm.report.facts import FINISHED, Run

CLASSES = ("cat", "dog", "bird")


def outputs(seed: int, num: int = 40, classes: int = 3) -> dict[str, Any]:
    """Logits that know a little of the targets."""
    random = np.random.default_rng(seed)
    targets = random.choice(np.array([-1, -1, 1, 0], np.int8), (num, classes))
    logits = (targets + random.normal(0, 1.5, (num, classes))).astype(np.float32)
    return {"ids": np.array([f"image{i}" for i in range(num)]), "logits": logits, "targets": targets}


def compared(seed: int, num: int = 40) -> dict[str, Any]:
    """A student's features beside a teacher's, image by image."""
    random = np.random.default_rng(seed)
    angle, length, bits = random.uniform(5, 60, num), random.uniform(0.5, 2, num), random.uniform(0.4, 1, num)
    return {"angle": angle, "relative_length": length, "equal_bits": bits}


def a_run(name: str = "run", *, score: float | None = 50.0, seed: int = 0, **given: Any) -> Run:
    """A finished run of train on the data set pets."""
    settings = {"epochs": 3, "seed": seed, "data.eval": "e" * 64} | given.pop("settings", {})
    report = {"metric": "voc2010", "ap": {label: {"voc2010": score} for label in CLASSES}} | given.pop("report", {})
    values: dict[str, Any] = {
        "folder": f"outputs/train/{name}", "command": "train", "state": FINISHED, "network": "resnet8",
        "dataset": "pets", "split": "test", "metric": "voc2010 mAP", "epoch": 3, "epochs": 3,
        "classes": CLASSES, "checkpoint": name,
        "arrays": outputs(seed), "command_line": ("lshfm", "train", f"name={name}"),
        "curves": {"score": [(1.0, 20.0), (2.0, 40.0)], "bce": [(0.5, 0.6), (1.0, 0.5)], "lr": [(0.5, 0.1), (1, 0.05)]},
        "losses": ("bce",), "cost": {"images_per_second": 100.0, "training_seconds": 2.0},
        "environment": {"torch": "2.14", "device": "CPU"},
    }  # fmt: skip
    return Run(name=name, score=score, seed=seed, report=report, settings=settings, **(values | given))


def a_student(name: str, *, loss: str = "l2", stage: str = "2", teacher: str = "teacher_s0", **given: Any) -> Run:
    """A finished run of mimic."""
    seed = given.get("seed", 0)
    settings = {"loss": loss, "stage": stage, "teacher": f"{seed:064x}"} | given.pop("settings", {})
    report = {"mimicry": {"angle": 12.0, "relative_length": 0.9, "hash_agreement": 88.0, "teacher_mAP": 70.0}}
    curves = {"score": [(1.0, 30.0), (2.0, 60.0)], "angle": [(0.0, 90.0), (1.0, 20.0)], "length": [(1.0, 0.9)]}
    arrays = outputs(seed + 10) | {"targets": outputs(seed)["targets"]} | compared(seed)
    values: dict[str, Any] = {
        "command": "mimic", "stage": stage, "loss": loss, "teacher": teacher, "teacher_network": "resnet20",
        "curves": curves, "beside": ("angle", "length"), "arrays": arrays, "before": compared(seed + 5),
        "report": report, "settings": settings,
    }  # fmt: skip
    return a_run(name, **(values | given))
