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
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.runs.checkpoint import fill
from lshfm.runs.layout import unpack
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
    assert torch.equal(unpack(tmp_path / "a.ckpt")["model"]["weight"], torch.arange(600.0))


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
        fill(torch.nn.Linear(600, 1), unpack(tmp_path / "a.ckpt")["model"], tmp_path / "a.ckpt")


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
        unpack(tmp_path / "a.ckpt")


WORDS = ("train", "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "name=a", "gpus=[]", "workers=0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that lacks nothing but its results."""
    folder = tmp_path_factory.mktemp("whole")
    here(folder, *WORDS, "epochs=1")
    (folder / "outputs/train/a/results.json").unlink()
    return folder


ALIGNED = {
    "command": "mimic", "stage": "1", "loss": "l2", "teacher": {"identity": "0", "checkpoint": "t.ckpt"},
    "identity": {"data.train": "0"},
    "config": {"eval_batch_size": 4, "precision": "fp32", "channels_last": False, "seed": 0},
}  # fmt: skip
HASHES = {"num": 3, "width": 2, "std": 1.0, "seed": 0, "rule": "median", "sha256": "0", "bias": torch.zeros(3)}

STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "a tensor among the classes": ({"classes": ["a", torch.zeros(2)]}, "classes"),
    "a mean of tensors": ({"mean": [torch.zeros(2)] * 3}, "mean"),
    "a deviation of texts": ({"std": ["1", "1", "1"]}, "std"),
    "weights that are numbers": ({"model": {"weight": 1.0}}, "model"),
    "weights called by numbers": ({"model": {1: torch.zeros(2)}}, "model"),
    "tensors in the settings": ({"network": {"option": "resnet8", "values": {"arch": torch.zeros(2)}}}, "network"),
    "tensors in the record": ({"metrics": {"mAP": torch.zeros(2)}}, "metrics"),
    "keys that are numbers": ({"metrics": {1: 2}}, "metrics"),
    "bytes in the record": ({"metrics": {"mAP": bytearray(3)}}, "metrics"),
    "no teacher": (ALIGNED | {"teacher": {}}, "teacher.identity, teacher.checkpoint"),
    "a teacher of tensors": (ALIGNED | {"teacher": {"identity": torch.zeros(2), "checkpoint": "x"}}, "teacher.ident"),
    "no data": (ALIGNED | {"identity": {}}, "identity"),
    "no seed": (ALIGNED | {"config": {k: v for k, v in ALIGNED["config"].items() if k != "seed"}}, "config.seed"),  # type: ignore[attr-defined]
    "hash functions of another number": (ALIGNED | {"constants": HASHES | {"num": 4}}, "constants"),
    "hash functions in half precision": (
        ALIGNED | {"constants": HASHES | {"bias": torch.zeros(3).half()}},
        "constants",
    ),
    "hash functions of tensors": (ALIGNED | {"constants": HASHES | {"std": torch.zeros(2)}}, "constants"),
    "hash functions of a huge seed": (ALIGNED | {"constants": HASHES | {"seed": 10**30}}, "constants"),
    "a list of hash functions": (ALIGNED | {"constants": [1]}, "constants"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_lies_in_the_right_place_and_is_no_value_is_named(tmp_path: Path, kind: str) -> None:
    changes, message = STRANGE[kind]
    saved(tmp_path / "a.ckpt", content(**changes))
    with pytest.raises(InputError, match=f"is damaged: .*{re.escape(message)}.* missing or of the wrong kind"):
        unpack(tmp_path / "a.ckpt")


def test_whole_stage_1_checkpoints_are_read(tmp_path: Path) -> None:
    for constants in ({}, HASHES):
        saved(tmp_path / "a.ckpt", content(**ALIGNED, constants=constants))
        assert unpack(tmp_path / "a.ckpt")["constants"].keys() == constants.keys()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_numbers_of_another_kind_are_no_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    network = torch.nn.Linear(600, 1)
    weights = {"weight": torch.ones(1, 600).to(dtype), "bias": torch.zeros(1)}
    with pytest.raises(InputError, match=r"the weights are not those of its network; first mismatches: weight$"):
        fill(network, weights, tmp_path / "a.ckpt")


class Masked:
    """Read as an OrderedDict whose attributes hide its methods."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), dict.fromkeys(("items", "keys", "get"), 5), None, iter([("weight", torch.ones(2))])


def test_methods_hidden_by_attributes(tmp_path: Path) -> None:
    saved(tmp_path / "a.ckpt", content(model=Masked()))
    read = unpack(tmp_path / "a.ckpt")["model"]
    assert type(read) is dict
    assert torch.equal(read["weight"], torch.ones(2))


def test_a_text_whose_encoding_would_take_hours(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode()
    body = b"c_codecs\nencode\nX" + struct.pack("<I", len(text)) + text + b"X\x08\0\0\0punycode\x86R."
    data = saved(tmp_path / "a.ckpt", content())
    (tmp_path / "a.ckpt").write_bytes(with_record(data, "data.pkl", lambda _: b"\x80\x02" + body))
    with pytest.raises(InputError, match="in an encoding that torch never writes"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_tuple_that_would_be_hashed_for_ever(tmp_path: Path) -> None:
    """As a key, in a pickle written by hand: 2^60 steps, or so deep that hashing it overflows the stack."""
    data = saved(tmp_path / "a.ckpt", content())
    wide = b")" + b"q\x00h\x00\x86" * 60
    deep = b")" + b"\x85" * 10**6
    for key in (wide, deep):
        body = b"\x80\x02}" + key + b"K\x01s."
        (tmp_path / "a.ckpt").write_bytes(with_record(data, "data.pkl", lambda _, body=body: body))  # type: ignore[misc]
        with pytest.raises(InputError, match="tuples within tuples without end"):
            read_checkpoint(tmp_path / "a.ckpt")


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
