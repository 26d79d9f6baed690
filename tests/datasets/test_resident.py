"""Stores in a device's memory, here a CPU's: the same pixels, and where they are not put there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lshfm.datasets import resident as room
from lshfm.datasets.loader import DecodedPixels, Loader, StoredPixels, View
from lshfm.datasets.resident import ResidentPixels, resident
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.store import open_store
from lshfm.errors import InputError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
IMAGES = Shapes(num_train=12, num_eval=4).split("train").images


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredPixels:
    folder = tmp_path_factory.mktemp("stores")
    return StoredPixels(open_store(IMAGES, 16, folder, name="a", workers=0, report=lambda *_: None))


def test_its_batches_equal_those_from_the_disk(stored: StoredPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", 5 * 16 * 16 * 3)  # copied in three parts
    source, sentence = resident(stored, CPU, "device")
    assert isinstance(source, ResidentPixels)
    assert len(source) == 12
    assert "The store lies in memory: " in sentence
    labels = np.zeros((12, 1), np.int8)
    epochs = [
        list(
            Loader(
                pixels,
                labels,
                batch_size=4,
                device=CPU,
                view=View((0.5,) * 3, (0.2,) * 3),
                shuffle=True,
                drop_last=True,
            ).epoch(1, start=1)
        )
        for pixels in (stored, source)
    ]
    assert len(epochs[0]) == 2
    for a, b in zip(*epochs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.index, b.index)


def test_auto_takes_an_eighth_of_what_is_free(stored: StoredPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[torch.device] = []
    monkeypatch.setattr(room, "_copied", lambda store, device: copied.append(device) or torch.empty(0))
    needed = stored.store.pixels.nbytes
    for free, kind in ((8 * needed, ResidentPixels), (8 * needed - 1, StoredPixels)):
        monkeypatch.setattr(room, "free_bytes", lambda device, free=free: free)
        assert type(resident(stored, GPU, "auto")[0]) is kind
    assert copied == [GPU]


@pytest.mark.parametrize(("device", "cache"), [(CPU, "auto"), (GPU, "on"), (CPU, "off")])
def test_it_stays_on_the_disk(stored: StoredPixels, device: torch.device, cache: str) -> None:
    assert resident(stored, device, cache) == (stored, "")


def test_pictures_that_are_decoded_every_time_stay_so() -> None:
    decoded = DecodedPixels(IMAGES, 16)
    assert resident(decoded, CPU, "device") == (decoded, "")


def test_what_does_not_fit_is_refused(stored: StoredPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: 100)
    with pytest.raises(InputError, match=r"cache=device: the store does not fit into the memory of cuda:0: 9\.2 MB|MB"):
        resident(stored, GPU, "device")


def test_free_memory_is_a_plausible_number() -> None:
    assert 2**20 < room.free_bytes(CPU) < 2**50


def test_the_path_of_the_store_is_known(stored: StoredPixels) -> None:
    source, _ = resident(stored, CPU, "device")
    assert isinstance(source, ResidentPixels)
    assert Path(source.store.path).is_file()
