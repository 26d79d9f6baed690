"""Damaged and hostile checkpoint files: a message within bounded time, and nothing in them ever runs."""

import io
import json
import os
import pickle
import random
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.commands import finished
from lshfm.errors import InputError
from lshfm.models.files import read_checkpoint
from tests.cli.conftest import here

pytestmark = pytest.mark.timeout(60)


class Evil:
    """Makes a folder when unpickled by anything that runs what a pickle names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def content(**other: Any) -> dict[str, Any]:
    """What a small checkpoint of ours holds."""
    node = {"option": "resnet8", "values": {"name": "resnet8"}}
    config = {"eval_batch_size": 4, "precision": "fp32", "channels_last": False}
    return {
        "format": "lshfm", "version": 1, "lshfm": "0.1.0", "model": {"weight": torch.arange(600.0)},
        "classes": ["a", "b"], "size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "network": node,
        "dataset": {"option": "shapes", "values": {"name": "shapes"}}, "config": config,
    } | other  # fmt: skip


def saved(path: Path, value: Any) -> bytes:
    torch.save(value, path)
    return path.read_bytes()


def test_the_good_one_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "a.ckpt", content())
    assert torch.equal(finished.unpack(tmp_path / "a.ckpt")["model"]["weight"], torch.arange(600.0))


@pytest.mark.parametrize("field", sorted(content()))
def test_code_in_any_field_is_refused_and_does_not_run(tmp_path: Path, field: str) -> None:
    saved(tmp_path / "a.ckpt", content(**{field: Evil(tmp_path / "hacked")}))
    with pytest.raises(InputError, match=r"refused: it contains code or unknown objects \(posix\.mkdir\)"):
        read_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_bare_pickle_with_code_is_refused(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"a": Evil(tmp_path / "hacked")}, protocol))
    with pytest.raises(InputError):
        read_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "hacked").exists()


FOREIGN: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(10**12, device="meta"),
    "a set": lambda: {1, 2},
    "complex object": lambda: torch.nn.Linear(2, 2),
    "a path": lambda: Path("/etc/passwd"),
    "a generator": lambda: torch.Generator().get_state().numpy(),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_objects_as_weights(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "a.ckpt", content(model={"weight": FOREIGN[kind]()}))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "a.ckpt"))):
        finished.check_weights(
            tmp_path / "a.ckpt", torch.nn.Linear(600, 1), finished.unpack(tmp_path / "a.ckpt")["model"]
        )


def with_record(data: bytes, name: str, change: Callable[[bytes], bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with one record changed, its checksums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for record in old.infolist():
            body = old.read(record)
            new.writestr(record.filename, change(body) if record.filename.endswith(name) else body)
    return out.getvalue()


def test_a_tensor_that_declares_more_than_the_file_holds(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.ckpt", content(model={"weight": torch.zeros(1000)}))
    number = struct.pack("<H", 1000)
    huge = b"\x8a\x06" + (10**12).to_bytes(6, "little")  # LONG1
    (tmp_path / "a.ckpt").write_bytes(with_record(data, "data.pkl", lambda body: body.replace(b"M" + number, huge)))
    with pytest.raises(InputError, match=r"a\.ckpt"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_view_on_a_tiny_storage(tmp_path: Path) -> None:
    saved(tmp_path / "a.ckpt", content(model={"weight": torch.zeros(1).expand(10**12)}))
    with pytest.raises(InputError, match="'weight' declares more values than the file holds"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.ckpt", content())
    bomb = with_record(data, "data/0", lambda _: bytes(50 * 2**20), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 200_000
    (tmp_path / "a.ckpt").write_bytes(bomb)
    for whole in (True, False):
        with pytest.raises(InputError, match="it is compressed, which no checkpoint is"):
            read_checkpoint(tmp_path / "a.ckpt", whole=whole)


def test_tuples_within_tuples(tmp_path: Path) -> None:
    """A few bytes that would take 2^60 steps to hash."""
    nested: Any = ()
    for _ in range(60):
        nested = (nested, nested)
    saved(tmp_path / "a.ckpt", content(config={nested[:0] or "k": nested}))
    with pytest.raises(InputError, match="without end"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_list_in_itself(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    saved(tmp_path / "a.ckpt", content(config={"k": endless}))
    with pytest.raises(InputError, match="without end"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_are_found_or_change_nothing(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.ckpt"
    good, chance = saved(path, content()), random.Random(seed)
    whole = read_checkpoint(path)
    for _ in range(25):
        damaged = bytearray(good)
        damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except InputError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            assert torch.equal(found["model"]["weight"], whole["model"]["weight"])
            assert json.dumps(found | {"model": 0}) == json.dumps(whole | {"model": 0})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999])
def test_cut_off_files_are_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.ckpt"
    good = saved(path, content())
    path.write_bytes(good[: int(share * len(good))])
    with pytest.raises(InputError, match="not a checkpoint, or a truncated one"):
        read_checkpoint(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases = {"fifo": "not a regular file", "loop": "no such file|cannot be looked up", ".": "is a folder"}
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_checkpoint(tmp_path / name)
    with pytest.raises(InputError, match=r"no such file|cannot be looked up"):
        read_checkpoint(tmp_path / ("x" * 300))


WRONG = {
    "version": ("1", "newer lshfm"),
    "classes": ("ab", "classes"),
    "size": (8.5, "size"),
    "mean": ({}, "mean"),
    "network": ({"option": "../../evil", "values": {}}, "network"),
    "dataset": ({"option": "shapes", "values": {"name": "${oc.env:HOME}"}}, "dataset"),
    "config": ({}, "config"),
    "model": ([1], "model"),
}


@pytest.mark.parametrize("field", WRONG)
def test_wrong_types_and_values_are_named(tmp_path: Path, field: str) -> None:
    value, message = WRONG[field]
    saved(tmp_path / "a.ckpt", content(**{field: value}))
    with pytest.raises(InputError, match=message):
        finished.unpack(tmp_path / "a.ckpt")


WORDS = ("train", "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "name=a", "gpus=[]", "workers=0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that lacks nothing but its results."""
    folder = tmp_path_factory.mktemp("whole")
    here(folder, *WORDS, "epochs=1")
    (folder / "outputs/train/a/results.json").unlink()
    return folder


@pytest.mark.slow
class TestRunFolder:
    """What lies in the folder of a run that is continued."""

    @pytest.fixture
    def run(self, whole: Path, tmp_path: Path) -> Path:
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
        return tmp_path / "outputs/train/a"

    def refused(self, folder: Path, tmp_path: Path) -> str:
        said = here(tmp_path, *WORDS, "epochs=1", code=2)
        assert str(folder.relative_to(tmp_path)) in said
        assert not (tmp_path / "hacked").exists()
        return said

    def test_code_in_last_ckpt(self, run: Path, tmp_path: Path) -> None:
        whole = torch.load(run / "last.ckpt")
        whole["state"]["history"] = Evil(tmp_path / "hacked")
        torch.save(whole, run / "last.ckpt")
        said = self.refused(run, tmp_path)
        assert "last.ckpt cannot be used: " in said
        assert "refused: it contains code" in said
        assert "to start anew" in said

    def test_shapes_of_another_network_in_last_ckpt(self, run: Path, tmp_path: Path) -> None:
        whole = torch.load(run / "last.ckpt")
        whole["state"]["model"]["classifier.weight"] = torch.zeros(3, 3)
        torch.save(whole, run / "last.ckpt")
        assert "classifier.weight" in self.refused(run, tmp_path)

    def test_a_damaged_last_ckpt_makes_way_for_the_one_before(self, run: Path, tmp_path: Path) -> None:
        (run / "last-1.ckpt").write_bytes((run / "last.ckpt").read_bytes())
        (run / "last.ckpt").write_bytes(b"half")
        said = here(tmp_path, *WORDS, "epochs=1")
        assert "last.ckpt cannot be used: " in said
        assert "taking the one before" in said
        assert "finished: " in said

    @pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": NaN', "\x00"])
    def test_identity_json(self, run: Path, tmp_path: Path, text: str) -> None:
        (run / "identity.json").write_text(text)
        self.refused(run, tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_results_json(self, run: Path, tmp_path: Path, text: str) -> None:
        (run / "results.json").write_text(text)
        assert "damaged" in self.refused(run, tmp_path)

    def test_metrics_of_another_kind(self, run: Path, tmp_path: Path) -> None:
        (run / "metrics.jsonl").write_bytes(b"\xff\xfe\x00\n[1]\nnull\n{}\n" + b"x" * 10_000)
        here(tmp_path, *WORDS, "epochs=1")
        assert all(json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines())
