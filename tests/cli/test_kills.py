"""Runs killed at random moments, again and again, end where an undisturbed run does."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Run, Start
from tests.cli.test_runs import assert_same_run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_random_kills(run: Run, start: Start, tmp_path: Path, seed: int) -> None:
    settings = [*TINY, "dataset.num_train=512", "epochs=6", f"dataset.cache_dir={tmp_path / 'stores'}", f"seed={seed}"]
    run("train", *settings, "name=whole")
    chance = random.Random(seed)
    kills = 0
    while not (tmp_path / "outputs/train/parts/results.json").exists():
        process = start("train", *settings, "name=parts")
        # Start-up takes most of a run: begin to count when the folder is there, but now and then kill before.
        limit = time.monotonic() + (60 if chance.random() < 0.8 else chance.uniform(1, 8))
        log = tmp_path / "outputs/train/parts/log.txt"
        size = log.stat().st_size if log.exists() else 0
        while time.monotonic() < limit and process.poll() is None:
            if log.exists() and log.stat().st_size > size:
                limit = min(limit, time.monotonic() + chance.uniform(0, 2.5))
                size = 1 << 40
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, -9), out + err
        assert kills < 40
    assert_same_run(tmp_path, "parts", "whole")
    assert kills
