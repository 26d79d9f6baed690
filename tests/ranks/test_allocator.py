"""Memory that a step frees and the next one takes again."""

import ctypes
import platform
import subprocess
import sys
from typing import Any

import pytest

from lshfm.ranks import allocator

STEPS = """
import resource, sys
import numpy as np
from lshfm.ranks.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    for array in [np.ones(2**18) for _ in range(20)]:  # 2 MiB each
        array += 1
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_a_step_does_not_get_its_memory_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in allocator.OWN:
        monkeypatch.delenv(name, raising=False)
    faults = {
        way: int(subprocess.run([sys.executable, "-c", STEPS, way], capture_output=True, check=True, text=True).stdout)
        for way in ("kept", "given back")
    }
    assert faults["kept"] < 50 < faults["given back"]


@pytest.mark.parametrize("name", allocator.OWN)
def test_what_the_environment_says_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in allocator.OWN:
        monkeypatch.delenv(name, raising=False)
    without: Any = object()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: without)
    allocator.keep_freed_memory()
