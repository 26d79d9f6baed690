"""CIFAR's official files: pickled and binary, packed and unpacked; damaged and hostile ones."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lshfm.datasets import download
from lshfm.datasets.cifar import CIFAR, LAYOUTS
from lshfm.errors import InputError, at
from lshfm.files.unpickle import read_arrays

NAMES = [f"name {i:02d}" for i in range(100)]


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts, and texts as bytes: as the official files have both."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data: bytes) -> None:
        self.write(b"T" + len(data).to_bytes(4, "little") + data)

    def save_text(self, text: str) -> None:
        self.save_bytes(text.encode("latin1"))

    dispatch[bytes], dispatch[str] = save_bytes, save_text


def pickled(content: dict[str, Any], *, python2: bool = True) -> bytes:
    if not python2:
        return pickle.dumps(content, protocol=2)
    file = io.BytesIO()
    Python2(file, 2).dump(content)
    return file.getvalue()


def hundred(folder: Path, *, python2: bool = True, **changed: Any) -> Path:
    """A pickled CIFAR-100 of three and two images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, n, labels in (("train", 3, [7, 99, 0]), ("test", 2, [1, 2])):
        content = {"data": pixels(n), "fine_labels": labels, "coarse_labels": [0] * n, "filenames": ["a"] * n}
        (folder / name).write_bytes(pickled(content | changed, python2=python2))
    (folder / "meta").write_bytes(pickled({"fine_label_names": NAMES, "coarse_label_names": ["x"]}, python2=python2))
    return folder


def packed(folder: Path, name: str) -> Path:
    """The folder as an archive beside it, which alone is left."""
    archive = folder.parent / name
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive.parent


@pytest.mark.parametrize("python2", [True, False])
def test_a_pickled_release_is_read(tmp_path: Path, python2: bool) -> None:
    split = CIFAR(hundred(tmp_path / "cifar-100-python", python2=python2)).split("train")
    assert (split.labels.tolist(), split.labels.dtype, list(split.classes)) == ([7, 99, 0], np.int64, NAMES)
    assert split.ids == ("train_00000", "train_00001", "train_00002")
    expected = pixels(3).reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    assert (split.images.array == expected).all()  # type: ignore[attr-defined]
    assert (split.images.pixels(1, 32) == expected[1]).all()
    assert split.images.pixels(1, 16).shape == (16, 16, 3)
    assert CIFAR(tmp_path).split("test").labels.tolist() == [1, 2]  # the folder that holds the unpacked one


def test_binary_and_archives_are_the_same(tmp_path: Path) -> None:
    source = hundred(tmp_path / "one" / "cifar-100-python")
    whole = CIFAR(source).split("train")
    archived = CIFAR(packed(source, "cifar-100-python.tar.gz")).split("train")
    binary = tmp_path / "two"
    binary.mkdir()
    rows = np.concatenate([np.zeros((3, 1), np.uint8), np.array([[7], [99], [0]], np.uint8), pixels(3)], axis=1)
    (binary / "train.bin").write_bytes(rows.tobytes())
    (binary / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
    assert {split.fingerprint() for split in (whole, archived, CIFAR(binary).split("train"))} == {whole.fingerprint()}


def test_ten_classes_come_in_five_files(tmp_path: Path) -> None:
    for i in range(1, 6):
        rows = np.concatenate([np.full((2, 1), i, np.uint8), pixels(2, i)], axis=1)
        (tmp_path / f"data_batch_{i}.bin").write_bytes(rows.tobytes())
    split = CIFAR(tmp_path, number=10).split("train")
    assert split.labels.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (len(split.classes), split.classes[3]) == (10, "cat")


def test_the_official_pictures_like_set_is_read(test_data: Path) -> None:
    source = CIFAR(test_data / "cifar100_like")
    assert [len(source.split(name)) for name in ("train", "test")] == [5000, 1000]
    assert np.bincount(source.split("train").labels).tolist() == [50] * 100


def truncated(folder: Path) -> None:
    (folder / "train").write_bytes((folder / "train").read_bytes()[:-3000])


Damage = Callable[[Path], Any]
DAMAGE: dict[str, tuple[Damage, str]] = {
    "truncated": (truncated, "train: not a pickle of arrays, or a truncated one"),
    "shape": (lambda f: hundred(f, data=pixels(3)[:, :9]), r"'data' must be uint8 \(n, 3072\), and is uint8 \(3, 9\)"),
    "kind": (lambda f: hundred(f, data=pixels(3).astype(np.int32)), r"'data' must be uint8 \(n, 3072\), and is int32"),
    "none": (lambda f: hundred(f, data=None), "'data' must be uint8 .*, and is NoneType"),
    "labels": (lambda f: hundred(f, fine_labels=[1, 2]), "'fine_labels' must be 3 whole numbers, and is 2"),
    "texts": (lambda f: hundred(f, fine_labels=[1, "2", 3]), "'fine_labels' must be 3 whole numbers, and is str"),
    "range": (lambda f: hundred(f, fine_labels=[1, 2, 100]), "image 2 has label 100, expected 0 to 99"),
    "list": (lambda f: (f / "train").write_bytes(pickle.dumps([1])), "holds no dictionary"),
    "names": (lambda f: (f / "meta").write_bytes(pickled({"fine_label_names": ["a"]})), "names 1 classes instead"),
    "empty": (lambda f: (f / "train").write_bytes(b""), "not a pickle of arrays"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(hundred(tmp_path))
    with pytest.raises(InputError, match=message):
        CIFAR(tmp_path).split("train")


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call", [(Path.touch, Path("touched")), (eval, "open('touched', 'w')"), (np.fromfile, "/dev/zero"), (bytearray, 9)]
)
def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    (hundred(tmp_path) / "train").write_bytes(pickle.dumps({"data": Evil(*call)}))
    with pytest.raises(
        InputError, match=r"train: (refused: it names .*, and only arrays and plain values are read|not a pickle)"
    ):
        CIFAR(tmp_path).split("train")
    assert not Path("touched").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_is_read(protocol: int) -> None:
    """What Python 3 writes unless told otherwise is 4, of which the official files know nothing."""
    array = pixels(3)
    content = {"data": array, "labels": ["one"] * 3, "again": array}  # objects that are referred back to
    found = read_arrays(pickle.dumps(content, protocol=protocol), "x")
    assert np.array_equal(found["data"], array)
    assert found["data"].dtype == np.uint8
    assert found["labels"] == ["one"] * 3
    turned = read_arrays(pickle.dumps({"data": np.asfortranarray(array)}, protocol=protocol), "x")["data"]
    assert np.array_equal(turned, array)


def test_arrays_that_lie_about_their_size_are_refused() -> None:
    honest = pickled({"data": pixels(1)})
    wrong = honest.replace(b"K\x01M\x00\x0c\x86", b"K\x09M\x00\x0c\x86")  # shape (9, 3072) of 3072 bytes
    assert wrong != honest
    with pytest.raises(InputError, match="not a pickle of arrays"):
        read_arrays(wrong, "x")
    with pytest.raises(InputError, match="endless memory"):  # a memo of four thousand million places
        read_arrays(b"\x80\x02]r\xff\xff\xff\xff.", "x")
    objects = pickle.dumps({"data": np.array([print], dtype=object)}, protocol=2)
    with pytest.raises(InputError, match=r"refused: it names|not a pickle of arrays"):
        read_arrays(objects, "x")


def test_broken_binaries_and_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(bytes(3074 + 5))
    with pytest.raises(InputError, match=r"train.bin: 3079 bytes are no records of 3074: truncated"):
        CIFAR(tmp_path).split("train")
    (tmp_path / "train.bin").write_bytes(bytes([0, 100]) + bytes(3072))
    with pytest.raises(InputError, match=r"train.bin: image 0 has label 100, expected 0 to 99"):
        CIFAR(tmp_path).split("train")
    with pytest.raises(InputError, match=r"test.bin is missing: copy or unpack"):
        CIFAR(tmp_path).split("test")
    folder = packed(hundred(tmp_path / "a" / "cifar-100-python"), "cifar-100-python.tar.gz")
    archive = folder / "cifar-100-python.tar.gz"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / archive.name).write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(InputError, match="is truncated or damaged"):
        CIFAR(tmp_path / "b").split("train")


def test_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", lambda *_, **__: pytest.fail("fetched"))
    with (
        pytest.raises(InputError, match=r"(?s)No CIFAR-100 at dataset.root=.*dataset.download=true fetches"),
        at("dataset"),
    ):
        CIFAR(tmp_path).split("train")


def test_what_is_fetched_is_the_official_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hundred(tmp_path / "source" / "cifar-100-python")
    archive = packed(source, "cifar-100-python.tar.gz") / "cifar-100-python.tar.gz"
    asked: list[str] = []

    def answer(url: str, timeout: float) -> Any:
        asked.append(url)
        return archive.open("rb")

    monkeypatch.setattr(download.urllib.request, "urlopen", answer)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"MD5 .* instead of eb9058c3a382ffc7106e4002c42a8d85: another file"):
        CIFAR(tmp_path / "target", download=True).split("train")
    assert not (tmp_path / "target" / archive.name).exists()
    own = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(LAYOUTS, 100, LAYOUTS[100].__class__(**vars(LAYOUTS[100]) | {"md5": own}))
    assert len(CIFAR(tmp_path / "target", download=True).split("train")) == 3
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"] * 2


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="number=20: must be 10 or 100"):
        CIFAR(tmp_path, number=20)
    with pytest.raises(InputError, match="CIFAR-100 split=val is not one of train, test"):
        CIFAR(hundred(tmp_path)).split("val")
