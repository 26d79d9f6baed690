"""What only a CUDA GPU can show, in parts: `make gpu-check`, or `make gpu-check PARTS="train_bf16"`.

Every part ends well inside its limit, at most 5 minutes; all of them together stay within 30. Results are merged into
one JSON file, part by part; one that is in there for the code at hand is not run again, so a check that was cut off
goes on where it stopped. Real data comes from LSHFM_TEST_DATA, else ../shared/data. Nothing is installed.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LSHFM_TEST_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenet_v2-imagenet.pth"


def run_tests(limit: float) -> dict[str, Any]:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    lines = ended.stdout.strip().splitlines()
    return {"passed": ended.returncode == 0, "summary": lines[-1] if lines else "", "output": lines[-40:]}


ONE_RANK = ("torch.distributed.run", "--nproc-per-node=1", "--module")  # a group of one: NCCL without a second GPU


def lshfm(folder: Path, limit: float, *words: str, launcher: Sequence[str] = ()) -> list[str] | None:
    """Run a command in `folder`, as a rank where a launcher is named; its last lines if it fails."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", *launcher, "lshfm", *words, "dataset=voc2007", f"dataset.root={DATA}"]
    command += ["dataset.size=224", f"dataset.cache_dir={folder}/stores"]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )
    return (ended.stdout + ended.stderr).splitlines()[-40:] if ended.returncode else None


def figures(run: Path) -> tuple[dict[str, Any], float]:
    """A finished run's results, and the images a second it trained at, at its best."""
    results = json.loads((run / "results.json").read_text())
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return results, max(entry["images_per_second"] for entry in lines if "images_per_second" in entry)


TEACHER = ("train", "model=mobilenet_v2", f"model.weights={WEIGHTS}", "epochs=4", "name=check")


def train(limit: float, *settings: str, launcher: Sequence[str] = ()) -> dict[str, Any]:
    """MobileNetV2 on the real VOC2007 piece at 224 px, 4 epochs of batch 16."""
    with tempfile.TemporaryDirectory() as folder:
        fault = lshfm(Path(folder), limit, *TEACHER, *settings, launcher=launcher)
        if fault:
            return {"passed": False, "output": fault}
        results, rate = figures(Path(folder) / "outputs/train/check")
    return {
        "passed": results["score"] is not None and results["score"] > 50,
        "voc2010_mAP": results["score"],
        "training_images_per_second": rate,
        "seconds": results["seconds"],
        "hardware": results["hardware"],
        "settings": list(settings),
    }


def mimic(limit: float, *settings: str) -> dict[str, Any]:
    """That MobileNetV2 teaches another one, from ImageNet weights: a stage 1 of 1 epoch, a stage 2 of 3."""
    end = time.monotonic() + limit
    stages = ("mimic", "teacher=check", "student=mobilenet_v2", f"student.weights={WEIGHTS}", "name=student")
    stages += ("stage1.epochs=1", "stage2.epochs=3", "loss.hash_num=2048")
    with tempfile.TemporaryDirectory() as folder:
        for words in (TEACHER, stages):
            fault = lshfm(Path(folder), end - time.monotonic(), *words, *settings)
            if fault:
                return {"passed": False, "output": fault}
        (first, first_rate), (second, rate) = (figures(Path(folder) / f"outputs/mimic/student_stage{i}") for i in "12")
    mimicry = second["report"]["mimicry"]
    return {
        "passed": second["score"] > 50 and mimicry["hash_agreement"] > 60,
        "teacher_mAP": mimicry["teacher_mAP"],
        "student_mAP": second["score"],
        "angle": {"stage 1": first["report"]["mimicry"]["angle"], "stage 2": mimicry["angle"]},
        "hash_agreement": {"stage 1": first["score"], "stage 2": mimicry["hash_agreement"]},
        "training_images_per_second": {"stage 1": first_rate, "stage 2": rate},
        "seconds": first["seconds"] + second["seconds"],
        "hardware": second["hardware"],
        "settings": list(settings),
    }


def median_pass(limit: float) -> dict[str, Any]:
    """Medians of the largest published number of hash functions over VOC's trainval, on the GPU."""
    sizes = ["--num=65536", "--width=2048", "--rows=5011", "--device=cuda"]
    command = [sys.executable, str(ROOT / "benchmarks/median_pass.py"), *sizes]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    return {"passed": ended.returncode == 0, "output": (ended.stdout + ended.stderr).splitlines()[-40:]}


BF16 = ("precision=bf16", "channels_last=true")
PARTS: dict[str, tuple[float, Callable[[float], dict[str, Any]]]] = {
    "tests": (300, run_tests),
    "train_fp32": (140, lambda limit: train(limit)),
    "train_bf16": (140, lambda limit: train(limit, *BF16)),
    "nccl_bf16_one_rank": (140, lambda limit: train(limit, *BF16, launcher=ONE_RANK)),
    "nccl_sync_bn_one_rank": (140, lambda limit: train(limit, "sync_bn=true", launcher=ONE_RANK)),
    "bn_groups": (140, lambda limit: train(limit, "bn_group_size=4")),
    "mimic_fp32": (240, lambda limit: mimic(limit)),
    "mimic_bf16": (240, lambda limit: mimic(limit, *BF16)),
    "median_pass": (120, median_pass),
}


def code_digest() -> str:
    """Of all that the parts run: a result belongs to this code and no other."""
    files = sorted(p for folder in ("lshfm", "conf", "tests", "benchmarks") for p in (ROOT / folder).rglob("*"))
    parts = [p.relative_to(ROOT).as_posix().encode() + p.read_bytes() for p in files if p.suffix in {".py", ".yaml"}]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def main() -> int:
    """Run what is asked for and not there yet; 0 if every part passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--json", type=Path, default=Path("outputs/gpu_check.json"), help="file to merge into")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    import torch

    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA GPU, and torch sees none here", file=sys.stderr)
        return 2
    here = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    merged = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {}
    chosen = arguments.parts or list(PARTS)
    for name in chosen:
        before = merged.get(name, {})
        if before.get("code") == code_digest() and before.get("gpu") == here["gpu"] and before["passed"]:
            print(f"{name}: there already")
            continue
        limit, part = PARTS[name]
        started = time.perf_counter()
        try:
            result = part(limit)
        except subprocess.TimeoutExpired:
            result = {"passed": False, "output": [f"not done within {limit:g} s"]}
        merged[name] = here | {"code": code_digest(), "wall_seconds": round(time.perf_counter() - started, 1)} | result
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(merged, indent=1) + "\n")
        print(f"{name}: {json.dumps(merged[name], indent=1)}", flush=True)
    return 0 if all(merged[name]["passed"] for name in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
