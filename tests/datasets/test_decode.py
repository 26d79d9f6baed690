import os
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets.decode import ahead, decode, find_broken, sweep
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage, Pixels
from lshfm.datasets.store import open_store
from lshfm.errors import RunFailed


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> FileImages:
    """300 small pictures, all different; 7 and 290 are broken."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i}.png" for i in range(300)]
    for i, path in enumerate(paths):
        Image.new("RGB", (5, 4), (i % 256, i // 256, 9)).save(path)
    paths[7].write_bytes(b"no image")
    paths[290].unlink()
    return FileImages(tuple(paths))


def first_values(images: FileImages, index: int) -> list[int]:
    value: list[int] = images.pixels(index, 2)[0, 0].tolist()
    return value


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(images: FileImages, workers: int) -> None:
    wanted = [299, 0, 3, 255, 256, 1]
    results = list(decode(images, first_values, wanted, workers))
    assert results == [[i % 256, i // 256, 9] for i in wanted]


@pytest.mark.parametrize("workers", [0, 2])
def test_find_broken(images: FileImages, workers: int) -> None:
    reports: list[tuple[int, int]] = []
    broken = find_broken(images, 4, workers, lambda done, total: reports.append((done, total)))
    assert broken == (7, 290)
    assert reports[-1] == (300, 300)
    assert reports == sorted(set(reports))


def test_messages_name_the_broken(images: FileImages) -> None:
    def look(images: FileImages, chunk: range) -> dict[int, str]:
        return {i: images.where(i) for i in chunk if i in (7, 290)}

    assert sweep(images, look, 0, lambda done, total: None) == {i: images.where(i) for i in (7, 290)}


def die(images: FileImages, item: int) -> None:
    os._exit(9)


def test_a_killed_worker_is_one_clear_error(images: FileImages) -> None:
    with pytest.raises(RunFailed, match="was killed"):
        list(decode(images, die, [0], 1))


def fail(images: FileImages, item: int) -> None:
    raise ZeroDivisionError("a fault of ours")


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_pass(images: FileImages, workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(decode(images, fail, range(100), workers))


def test_ahead_keeps_order_and_depth() -> None:
    submitted: list[int] = []

    def submit(item: int) -> Future[int]:
        submitted.append(item)
        future: Future[int] = Future()
        future.set_result(item * item)
        return future

    results = ahead(submit, range(10), depth=3)
    assert next(results) == 0
    assert submitted == [0, 1, 2, 3]
    assert list(results) == [i * i for i in range(1, 10)]


@dataclass(frozen=True)
class TorchWatch:
    """Pictures that are broken where torch is loaded."""

    def __len__(self) -> int:
        return 256

    def pixels(self, index: int, size: int) -> Pixels:
        if "torch" in sys.modules:
            raise BrokenImage("the worker", "has imported torch")
        return np.zeros((size, size, 3), np.uint8)

    def picture(self, index: int) -> Pixels:
        return self.pixels(index, 3)

    def signature(self) -> str:
        return ""

    def fingerprint(self) -> str:
        return ""

    def where(self, index: int) -> str:
        return f"picture {index}"


def test_workers_import_no_torch(tmp_path: Path) -> None:
    """It takes seconds and hundreds of megabytes, for each worker."""
    from lshfm.datasets.box_loader import DecodedPictures  # here, since workers import this file
    from lshfm.datasets.loader import DecodedPixels

    watch = TorchWatch()
    store = open_store(watch, 2, tmp_path, name="x", workers=2, report=lambda done, total: None)
    assert not store.pixels.any()
    assert next(DecodedPixels(watch, 2, workers=1).stream([np.array([0, 1])])).shape == (2, 2, 2, 3)
    assert [each.shape for each in next(DecodedPictures(watch, workers=1).stream([np.array([0])]))] == [(3, 3, 3)]


def test_the_rest_is_abandoned_at_once(images: FileImages) -> None:
    results = decode(images, first_values, range(8), 0)
    assert next(results) == [0, 0, 9]
    results.close()
    assert list(results) == []


SCRIPT = """
from functools import partial
from pathlib import Path

import numpy as np

from lshfm.datasets.decode import decode, decode_good
from lshfm.datasets.images import FileImages

print("begun")
images = FileImages((Path("a.png"),) * 4)
for pixels, _broken in decode(images, partial(decode_good, size=8), [np.arange(2), np.arange(2, 4)], workers=1):
    print(pixels.shape)
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """New processes would import it again, and there train once more."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    said = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.split("\n") == ["begun", "(2, 8, 8, 3)", "(2, 8, 8, 3)", ""]
