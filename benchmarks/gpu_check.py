"""What only a CUDA GPU can show, in parts: `make gpu-check`, or `make gpu-check PARTS="train_bf16"`.

tests_arithmetic: single steps and hash functions beside the CPU's. tests_runs: whole runs, to the bit and on the CPU
again. tests_stages_fp32, tests_stages_bf16: both stages of mimicking, to the bit, and a bf16 teacher's hash bits.
train_fp32: the real VOC2007 piece at 224 px, whose network is kept as the teacher of mimic_fp32 and mimic_bf16.
train_bf16, bn_groups: the same in bf16 and channels-last, and with BatchNorm over groups. nccl_bf16_one_rank,
nccl_sync_bn_one_rank: NCCL without a second GPU. median_pass: medians of the largest published number of functions.
tests_fast_graphs, tests_fast_waiting, tests_fast_data, tests_fast_compiled: what speed=fast is made of, beside what it
replaces. train_fast, mimic_fast: as train_fp32 and mimic_fp32, whose images a second they are to be held against.
bench_short, bench_short_runs: all parts of `make bench` at tiny sizes, its gates too; those that start the tool apart.
tests_detection: batches of boxes, hashes of windows in bf16, fast steps of detectors.

A part that takes more than its minute (bench_*: three) has failed; those of a usual GPU take about half of it,
and all together at most 9 minutes. Results are merged into one JSON file, part by part; one that is in there for the
code at hand is not run again, so a check that was cut off goes on where it stopped. The teacher and decoded pixels
are kept in the system's temporary folder. Real data comes from LSHFM_TEST_DATA, else ../shared/data. Nothing is
installed.
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
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LSHFM_TEST_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenet_v2-imagenet.pth"


LIMIT = 60.0  # seconds a part
LIMITS = {"bench_short": 180.0, "bench_short_runs": 180.0}
# Parts of the benchmark: those that work in its own process, and those that start the tool time and again.
IN_PROCESS = (
    "machine", "gates", "loader", "augmentation", "bias", "evaluation", "opening", "step_*", "detection_step",
    "detection_eval", "retinanet_lsh",
)  # fmt: skip
RUNS = ("startup", "end_to_end_*", "cifar_train", "detection_train", "scaling_*", "memory_*")
VOC = (f"dataset.root={DATA}", "dataset=voc2007", "dataset.size=224")
BF16 = ("precision=bf16", "channels_last=true")
ONE_RANK = ("torch.distributed.run", "--nproc-per-node=1", "--module")  # a group of one: NCCL without a second GPU
ARITHMETIC = "not (deterministic or scores or both_stages or keeps_its_hash_bits or test_fast)"


def run_tests(limit: float, keyword: str) -> dict[str, Any]:
    """The tests marked gpu whose names a keyword chooses."""
    command = ["pytest", "-q", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider", "-k", keyword]
    code, lines = python(ROOT, limit, *command)
    summary = lines[-1] if lines else ""
    return {"passed": code == 0 and "skipped" not in summary, "summary": summary, "output": lines}


def python(folder: Path, limit: float, *words: str) -> tuple[int, list[str]]:
    """Run `python -m WORDS...` in `folder`: exit code and last lines."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )
    return ended.returncode, (ended.stdout + ended.stderr).splitlines()[-40:]


def lshfm(folder: Path, limit: float, *words: str, launcher: Sequence[str] = ()) -> list[str] | None:
    """Run a command on the VOC2007 piece, as a rank where a launcher is named; its last lines if it fails."""
    code, lines = python(folder, limit, *launcher, "lshfm", *words, *VOC, f"dataset.cache_dir={kept() / 'stores'}")
    return lines if code else None


def figures(run: Path) -> tuple[Any, float]:
    """A finished run's Results, and the images a second it trained at, at its best."""
    sys.path.insert(0, str(ROOT))  # nothing is installed
    from lshfm.engine.lines import StepLine
    from lshfm.runs.record import Results, read_metrics

    steps = [line for line in read_metrics(run / "metrics.jsonl") if isinstance(line, StepLine)]
    return Results.read(run / "results.json"), max(line.images_per_second or 0.0 for line in steps)


TEACHER = ("train", "model=mobilenet_v2", f"model.weights={WEIGHTS}", "epochs=3", "name=check")


def train(limit: float, *settings: str, launcher: Sequence[str] = (), folder: Path | None = None) -> dict[str, Any]:
    """MobileNetV2 on the real VOC2007 piece at 224 px, 3 epochs of batch 16; `folder` keeps what it leaves."""
    with tempfile.TemporaryDirectory() as passing:
        place = folder or Path(passing)
        fault = lshfm(place, limit, *TEACHER, *settings, launcher=launcher)
        if fault:
            return {"passed": False, "output": fault}
        results, rate = figures(place / "outputs/train/check")
    return {
        "passed": results.score is not None and results.score > 40,
        "voc2010_mAP": results.score,
        "training_images_per_second": rate,
        "seconds": {"training": results.training_seconds, "evaluation": results.evaluation_seconds},
        "peak_memory": results.peak_memory,
        "hardware": results.hardware,
        "settings": list(settings),
    }


def mimic(limit: float, *settings: str) -> dict[str, Any]:
    """The kept MobileNetV2 teaches another one, from ImageNet weights: a stage 1 of 1 epoch, a stage 2 of 2."""
    if not (kept() / "checkpoints/check.ckpt").is_file():
        return {"passed": False, "output": ["there is no teacher: train_fp32 comes first"]}
    stages: tuple[str, ...] = ("mimic", "student=mobilenet_v2", f"student.weights={WEIGHTS}", "name=student")
    stages += ("stage1.epochs=1", "stage2.epochs=2", "loss.hash_num=2048", f"teacher={kept()}/checkpoints/check.ckpt")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        fault = lshfm(folder, limit, *stages, *settings)
        if fault:
            return {"passed": False, "output": fault}
        (first, first_rate), (second, rate) = (figures(folder / f"outputs/mimic/student_stage{i}") for i in "12")
    mimicry = second.report["mimicry"]
    return {
        "passed": (second.score or 0.0) > 40 and mimicry["hash_agreement"] > 55,
        "teacher_mAP": mimicry["teacher_mAP"],
        "student_mAP": second.score,
        "angle": {"stage 1": first.report["mimicry"]["angle"], "stage 2": mimicry["angle"]},
        "hash_agreement": {"stage 1": first.score, "stage 2": mimicry["hash_agreement"]},
        "training_images_per_second": {"stage 1": first_rate, "stage 2": rate},
        "training_seconds": {"stage 1": first.training_seconds, "stage 2": second.training_seconds},
        "peak_memory": second.peak_memory,
        "hardware": second.hardware,
        "settings": list(settings),
    }


def median_pass(limit: float) -> dict[str, Any]:
    """Medians of the largest published number of hash functions over VOC's trainval, on the GPU."""
    sizes = ["--num=65536", "--width=2048", "--rows=5011", "--device=cuda"]
    command = [sys.executable, str(ROOT / "benchmarks/median_pass.py"), *sizes]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    return {"passed": ended.returncode == 0, "output": (ended.stdout + ended.stderr).splitlines()[-40:]}


def bench_short(limit: float, *patterns: str) -> dict[str, Any]:
    """Parts of the benchmark at their shortest; passed if all of them gave figures and no gate failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        words = ["benchmarks.speed", *patterns, "--short", f"--json={path}", f"--folder={folder}/work"]
        code, lines = python(ROOT, limit, *words)
        found = json.loads(path.read_text())["parts"] if path.is_file() else {}
    broken = [name for name, gate in found.get("gates", {}).get("figures", {}).items() if gate["passed"] is False]
    return {"passed": code == 0 and not broken, "failed_gates": broken, "figures": found, "output": lines}


PARTS: dict[str, Callable[[float], dict[str, Any]]] = {
    "tests_arithmetic": lambda limit: run_tests(limit, ARITHMETIC),
    "tests_runs": lambda limit: run_tests(limit, "deterministic or scores"),
    "tests_stages_fp32": lambda limit: run_tests(limit, "both_stages and fp32"),
    "tests_stages_bf16": lambda limit: run_tests(limit, "both_stages and bf16 or keeps_its_hash_bits"),
    "tests_fast_graphs": lambda limit: run_tests(limit, "test_fast and (graph_equals or goes_on)"),
    "tests_fast_waiting": lambda limit: run_tests(limit, "test_fast and waits"),
    "tests_fast_data": lambda limit: run_tests(limit, "test_fast and (kernels or store_on)"),
    "tests_fast_compiled": lambda limit: run_tests(limit, "test_fast and compiled_networks"),
    "tests_detection": lambda limit: run_tests(limit, "test_fast_detectors"),
    "train_fp32": lambda limit: train(limit, "overwrite=true", folder=kept()),
    "train_bf16": lambda limit: train(limit, *BF16),
    "bn_groups": lambda limit: train(limit, "bn_group_size=4"),
    "nccl_bf16_one_rank": lambda limit: train(limit, *BF16, launcher=ONE_RANK),
    "nccl_sync_bn_one_rank": lambda limit: train(limit, "sync_bn=true", launcher=ONE_RANK),
    "mimic_fp32": mimic,
    "mimic_bf16": lambda limit: mimic(limit, *BF16),
    "train_fast": lambda limit: train(limit, "speed=fast"),
    "mimic_fast": lambda limit: mimic(limit, "speed=fast"),
    "median_pass": median_pass,
    "bench_short": lambda limit: bench_short(limit, *IN_PROCESS),
    "bench_short_runs": lambda limit: bench_short(limit, *RUNS),
}


def kept() -> Path:
    """The folder of the teacher and of decoded pixels."""
    folder = Path(tempfile.gettempdir()) / f"lshfm-gpu-check-{os.getuid()}-{code_digest()}"
    folder.mkdir(exist_ok=True)
    return folder


@cache
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
        started = time.perf_counter()
        try:
            result = PARTS[name](LIMITS.get(name, LIMIT))
        except subprocess.TimeoutExpired:
            result = {"passed": False, "output": [f"not done within {LIMITS.get(name, LIMIT):g} s"]}
        merged[name] = here | {"code": code_digest(), "wall_seconds": round(time.perf_counter() - started, 1)} | result
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(merged, indent=1) + "\n")
        print(f"{name}: {json.dumps(merged[name], indent=1)}", flush=True)
    return 0 if all(merged[name]["passed"] for name in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
