"""What only a CUDA GPU can show, in parts: `make gpu-check`, or `make gpu-check PARTS="train_bf16"`.

Every part ends well inside its limit, all of them within 8 minutes. Results are merged into one JSON file, part by
part; one that is in there for the code at hand is not run again, so a check that was cut off goes on where it stopped.
Real data comes from LSHFM_TEST_DATA, else ../shared/data. Nothing is installed.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LSHFM_TEST_DATA", ROOT.parent / "shared" / "data"))


def run_tests(limit: float) -> dict[str, Any]:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    lines = ended.stdout.strip().splitlines()
    return {"passed": ended.returncode == 0, "summary": lines[-1] if lines else "", "output": lines[-40:]}


def train(limit: float, *settings: str) -> dict[str, Any]:
    """MobileNetV2 on the real VOC2007 piece at 224 px, 4 epochs of batch 16."""
    weights = DATA / "weights" / "mobilenet_v2-imagenet.pth"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lshfm", "train", "dataset=voc2007", f"dataset.root={DATA}"]
        command += ["model=mobilenet_v2", f"model.weights={weights}", "dataset.size=224", "epochs=4", "name=check"]
        command += [f"dataset.cache_dir={folder}/stores", *settings]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
        if ended.returncode:
            return {"passed": False, "output": (ended.stdout + ended.stderr).splitlines()[-40:]}
        results = json.loads((Path(folder) / "outputs/train/check/results.json").read_text())
        lines = (Path(folder) / "outputs/train/check/metrics.jsonl").read_text().splitlines()
    rates = [entry["images_per_second"] for entry in map(json.loads, lines) if "images_per_second" in entry]
    return {
        "passed": results["score"] is not None and results["score"] > 50,
        "voc2010_mAP": results["score"],
        "training_images_per_second": max(rates),
        "seconds": results["seconds"],
        "hardware": results["hardware"],
        "settings": list(settings),
    }


PARTS: dict[str, tuple[float, Callable[[float], dict[str, Any]]]] = {
    "tests": (180, run_tests),
    "train_fp32": (140, lambda limit: train(limit)),
    "train_bf16": (140, lambda limit: train(limit, "precision=bf16", "channels_last=true")),
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
