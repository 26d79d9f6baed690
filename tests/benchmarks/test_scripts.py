"""The scripts whose figures docs/ quotes still run: each on little work, to its last line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "cifar_step": ("--steps", "7", "--arch", "resnet8"),
    "exact_step": ("--arch", "resnet18", "--size", "32", "--batch", "2", "--steps", "7"),
    "folder_list": ("--images", "40", "--classes", "4"),
    "median_pass": ("--num", "64", "--width", "16", "--rows", "50"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_ends_with_figures(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *SCRIPTS[name]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert any(char.isdigit() for char in done.stdout)


@pytest.mark.slow
def test_a_loader_s_rates(tmp_path: Path, test_data: Path) -> None:
    words = ["--data", str(test_data), "--size", "64", "--images", "16", "--batch-size", "8", "--repeat", "1"]
    command = [sys.executable, str(ROOT / "benchmarks/data_path.py"), *words, "--json", "found.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.json").is_file()


@pytest.mark.slow
def test_detectors_are_compared(tmp_path: Path, test_data: Path) -> None:
    """A row for each network, with all figures of those that mimic."""
    words = [str(test_data), "--images", "4", "--tested", "2", "--weights"]
    words += [str(test_data / "weights/mobilenet_v2-imagenet.pth"), "dataset.size=64", "dataset.train_sizes=[64]"]
    words += ["epochs=1", "schedule.steps=[]", "workers=0", "gpus=[]"]
    command = [sys.executable, "-m", "benchmarks.detectors", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("VOC2007, 1 seed(s)")[2]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["teacher", "student alone", "with l2", "with lsh", "with lshl2"]
    assert all(float(cell) >= 0 for row in rows[2:] for cell in row[1:])
