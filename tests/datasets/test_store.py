import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets import store as store_module
from lshfm.datasets.images import FileImages
from lshfm.datasets.store import Store, choose_cache, find_store, open_store, store_bytes
from lshfm.errors import InputError, RunFailed
from tests.processes import usual_signals

SIZE = 6


def draw(folder: Path, n: int) -> FileImages:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(n)]
    for i, path in enumerate(paths):
        noise = np.random.default_rng(i).integers(0, 256, (7, 9, 3), np.uint8)
        Image.fromarray(noise).save(path)
    return FileImages(tuple(paths))


@pytest.fixture
def images(tmp_path: Path) -> FileImages:
    return draw(tmp_path / "pictures", 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Reports(list[tuple[int, int]]):
    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


def opened(images: FileImages, folder: Path, **options: object) -> tuple[Store, Reports]:
    reports = Reports()
    options = {"name": "set train", "workers": 0, "report": reports} | options
    return open_store(images, options.pop("size", SIZE), folder, **options), reports  # type: ignore[arg-type]


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def assert_holds(store: Store, images: FileImages, size: int = SIZE) -> None:
    assert store.pixels.shape == (len(images), size, size, 3)
    assert store.pixels.dtype == np.uint8
    for i in range(len(images)):
        if i not in store.broken:
            np.testing.assert_array_equal(store.pixels[i], images.pixels(i, size))


def test_built_once_and_equal_to_decoding(images: FileImages, folder: Path) -> None:
    assert find_store(images, SIZE, folder, name="set train") is None
    store, reports = opened(images, folder)
    assert_holds(store, images)
    assert store.broken == ()
    assert reports == [(32, 40), (40, 40)]
    assert visible(folder) == [store.path.name]
    assert store.path.stat().st_size == store_bytes(40, SIZE)

    again, reports = opened(images, folder)
    assert reports == []
    assert again.path == store.path
    assert_holds(again, images)
    found = find_store(images, SIZE, folder, name="set train")
    assert found is not None
    assert found.path == store.path


def test_read_only_and_readable_by_numpy(images: FileImages, folder: Path) -> None:
    store, _ = opened(images, folder)
    with pytest.raises(ValueError, match="read-only"):
        store.pixels[0] = 0
    np.testing.assert_array_equal(np.load(store.path), store.pixels)


def test_built_by_several_processes(tmp_path: Path, folder: Path) -> None:
    images = draw(tmp_path / "many", 260)
    store, reports = opened(images, folder, workers=2)
    assert_holds(store, images)
    assert [done for done, _ in reports] == [*range(32, 260, 32), 260]
    assert visible(folder) == [store.path.name]


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\1")


def _damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0\0\0")


def _lose_the_end(path: Path) -> None:
    """As a power cut may: the length is there, the last blocks are not."""
    with path.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(bytes(20))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncate, "bytes instead of"),
        (_extend, "bytes instead of"),
        (_damage_header, "damaged header"),
        (_lose_the_end, "never finished"),
        (_empty, "has 0 bytes"),
    ],
)
def test_damaged_stores_are_rebuilt_and_it_is_said(
    images: FileImages, folder: Path, damage: object, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = opened(images, folder)
    damage(store.path)  # type: ignore[operator]
    with caplog.at_level(logging.INFO, "lshfm"):
        rebuilt, reports = opened(images, folder)
    assert reports
    assert_holds(rebuilt, images)
    assert [said in r.message and "building it again" in r.message for r in caplog.records] == [True]


def test_a_changed_image_makes_another_store_and_the_stale_one_goes(images: FileImages, folder: Path) -> None:
    old, _ = opened(images, folder)
    stat = images.paths[3].stat()
    os.utime(images.paths[3], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    new, reports = opened(images, folder)
    assert reports
    assert new.path != old.path
    assert visible(folder) == [new.path.name]
    assert_holds(old, images)  # who has it open keeps it


def test_stores_of_other_names_sizes_and_places_stay(images: FileImages, tmp_path: Path, folder: Path) -> None:
    stores = [
        opened(images, folder)[0],
        opened(images, folder, name="set test")[0],
        opened(images, folder, size=SIZE + 1)[0],
        opened(draw(tmp_path / "elsewhere", 40), folder)[0],
    ]
    assert visible(folder) == sorted(s.path.name for s in stores)
    assert len(visible(folder)) == 4
    assert_holds(stores[2], images, SIZE + 1)


@pytest.mark.parametrize("changed", ["Pillow", "libjpeg", "format"])
def test_what_makes_the_pixels_is_part_of_the_key(
    images: FileImages, folder: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = opened(images, folder)
    if changed == "Pillow":
        monkeypatch.setattr("PIL.__version__", "1.0")
    elif changed == "libjpeg":
        monkeypatch.setattr("PIL.features.version", lambda feature: "1.0")
    else:
        monkeypatch.setattr(store_module, "_FORMAT", 0)
    assert opened(images, folder)[0].path != old.path


def test_broken_images_are_all_named_or_left_out(images: FileImages, folder: Path) -> None:
    for i in (0, 2, 4, 6, 8, 10, 39):
        images.paths[i].write_bytes(b"no image")
    images.paths[4].unlink()
    with pytest.raises(InputError) as caught:
        opened(images, folder)
    message = str(caught.value)
    assert "7 of 40" in message
    assert "and 2 more" in message
    assert "with skip_broken=true" in message
    assert [f"/{i}.png " in message for i in (0, 2, 4, 6, 8, 10, 39)] == [True] * 5 + [False] * 2
    assert visible(folder) == []

    for attempt in range(2):
        store, reports = opened(images, folder, skip_broken=True)
        assert bool(reports) == (attempt == 0)
        assert store.broken == (0, 2, 4, 6, 8, 10, 39)
        assert not store.pixels[39].any()
        assert_holds(store, images)

    with pytest.raises(InputError, match="7 of 40"):
        opened(images, folder)
    assert visible(folder) == [store.path.name]


def test_mended_without_a_trace(images: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that could not be read, and now can, leaves size and time of the file as they were."""
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert len(opened(images, folder, skip_broken=True)[0].broken) == 40
    store, reports = opened(images, folder)
    assert reports
    assert_holds(store, images)
    assert store.broken == ()


Usage = namedtuple("Usage", "total used free")


def test_no_room(images: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, int(store_bytes(40, 500) * 1.04)))
    with pytest.raises(InputError) as caught:
        opened(images, folder, size=500)
    for words in ("30.0 MB", "31.2 MB", " cache=off", "\ncache_dir="):
        assert words in str(caught.value)
    assert visible(folder) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_disk_fills_up(images: FileImages, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(RunFailed, match=os.strerror(number)):
        opened(images, folder)
    assert visible(folder) == []


def test_file_systems_without_allocation(images: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert_holds(opened(images, folder)[0], images)


def test_a_folder_that_cannot_be_used(images: FileImages, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"\. cache_dir="):
        opened(images, tmp_path / "file" / "cache")


def test_whatever_is_raised_leaves_nothing(images: FileImages, folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(images, folder, report=interrupt)
    assert visible(folder) == []
    assert_holds(opened(images, folder)[0], images)


BUILDER = """
import logging, multiprocessing, sys, time
from pathlib import Path
from lshfm.datasets.images import FileImages
from lshfm.datasets.store import open_store

def report(done, total):
    children = [p.pid for p in multiprocessing.active_children()]
    print(done, *children, flush=True)
    while not go.exists():
        time.sleep(0.01)

if __name__ == "__main__":
    pictures, cache, go = map(Path, sys.argv[1:4])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    images = FileImages(tuple(sorted(pictures.iterdir(), key=lambda p: int(p.stem))))
    workers = int(sys.argv[4])
    store = open_store(images, 6, cache, name="set train", workers=workers, report=report)
    print("opened", int(store.pixels[-1].sum()), flush=True)
"""


class Builders:
    """Processes that open the store of tmp_path/pictures; a report holds them up until `go` is there."""

    def __init__(self, tmp_path: Path) -> None:
        self.script = tmp_path / "builder.py"
        self.script.write_text(BUILDER)
        self.arguments = [tmp_path / "pictures", tmp_path / "cache", tmp_path / "go"]
        self.go = tmp_path / "go"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, workers: int) -> "subprocess.Popen[str]":
        command = [sys.executable, str(self.script), *map(str, self.arguments), str(workers)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=usual_signals
        )
        self.started.append(process)
        return process


@pytest.fixture
def builders(tmp_path: Path) -> Iterator[Builders]:
    builders = Builders(tmp_path)
    yield builders
    for process in builders.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers too, should they outlive it
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def holds_interrupts(pid: int) -> bool:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigBlk"], 16) >> (signal.SIGINT - 1) & 1)


def wait_until_gone(pids: list[int]) -> None:
    while any(running(pid) for pid in pids):
        time.sleep(0.02)


def test_two_started_together_build_once(images: FileImages, folder: Path, builders: Builders) -> None:
    first = builders.start(workers=0)
    assert read_line(first) == "32\n"
    second = builders.start(workers=0)
    assert read_line(second).startswith("Waiting for another process")
    builders.go.touch()
    last = f"opened {images.pixels(39, SIZE).sum()}\n"
    assert first.communicate()[0] == f"40\n{last}"
    assert second.communicate()[0] == last
    assert len(visible(folder)) == 1


def test_a_killed_builder_leaves_no_process_and_what_it_wrote_is_removed(
    tmp_path: Path, folder: Path, builders: Builders
) -> None:
    images = draw(tmp_path / "pictures", 256)
    builder = builders.start(workers=2)
    done, *workers = map(int, read_line(builder).split())
    assert done == 32
    assert len(workers) == 2
    os.kill(builder.pid, signal.SIGKILL)
    wait_until_gone(workers)
    assert [Path(name).suffix for name in visible(folder)] == [".part"]

    os.utime(images.paths[0], ns=(0, 0))  # so that no new file of the same name takes its place
    store, _ = opened(images, folder)
    assert_holds(store, images)
    assert visible(folder) == [store.path.name]


def test_ctrl_c_ends_all_processes_quietly(tmp_path: Path, folder: Path, builders: Builders) -> None:
    draw(tmp_path / "pictures", 256)
    builder = builders.start(workers=2)
    _, *workers = map(int, read_line(builder).split())
    assert all(holds_interrupts(pid) for pid in workers)  # from their first moment, not once they are set up
    os.killpg(builder.pid, signal.SIGINT)
    _, errors = builder.communicate()
    assert errors.count("Traceback") == 1  # the parent's own: a script without a handler
    assert errors.strip().endswith("KeyboardInterrupt")
    wait_until_gone(workers)
    assert visible(folder) == []


@pytest.mark.parametrize(
    ("cache", "needed", "used"),
    [("off", 0, False), ("on", 10**15, True), ("auto", 500, True), ("auto", 501, False), ("auto", 0, True)],
)
def test_choose_cache(cache: str, needed: int, used: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(2000, 1000, 1000))
    use, sentence = choose_cache(cache, needed, folder / "not" / "there")
    assert use is used
    assert sentence.startswith("Pixels are decoded once" if used else "Pixels are decoded in every epoch")
    assert asked in ([], [folder.parent])


def test_choose_cache_refuses_other_words(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^cache=of .*'off'"):
        choose_cache("of", 0, folder)
