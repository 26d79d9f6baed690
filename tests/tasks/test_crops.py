"""Where the pictures of folders, of small arrays and of detection come from, as dataset.cache says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Train
from lshfm.config.words import rewrite
from lshfm.datasets import resident as room
from lshfm.datasets.cropped_pixels import CroppedPixels
from lshfm.datasets.in_memory import ArrayImages, ArrayPixels
from lshfm.datasets.resident import ResidentPixels
from lshfm.datasets.whole import StoredPictures, WholePictures
from lshfm.errors import InputError
from lshfm.tasks import pixels, stores
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import open_task
from tests.jobs import CPU

CACHED = "Pixels are decoded once, into a store in "
DECODED = "Pixels are decoded in every epoch "


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of three pictures to train on and one to evaluate, of many shapes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for name in "ab":
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            for i in range(count):
                noise = random.integers(0, 256, (30 + 9 * i, 40, 3), np.uint8)
                Image.fromarray(noise).save(tmp_path / "tree" / split / name / f"{i}.png")
    return tmp_path / "tree"


def settings_of(tree: Path, *words: str) -> Train:
    words = ("dataset=imagefolder", f"dataset.root={tree}", f"dataset.cache_dir={tree.parent}/cache",
             "dataset.size=16", "model=resnet8", "batch_size=2", "workers=0", "gpus=[]", *words)  # fmt: skip
    with conf_folder():
        return compose(Train, rewrite("train", words)).settings


def opened(settings: Train) -> TrainingData:
    task = open_task(settings.dataset)
    train, test = task.read(settings.dataset, ["train", "val"])
    return task.training_data(train, test, settings, CPU)


def batches(data: TrainingData) -> list[torch.Tensor]:
    """Of two epochs, of what is held out, and of the evaluation split."""
    loaders = (data.batches, data.batches, data.validation, data.test)
    return [batch.images for epoch, loader in enumerate(loaders) for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("short", [[], ["augment.short_side=20"]])
def test_a_store_changes_no_bit(tree: Path, short: list[str], said: list[str]) -> None:
    """Of crops, of what is held out, with pictures of their own size and of a short side."""
    data = [opened(settings_of(tree, f"dataset.cache={on}", "dataset.holdout=0.34", *short)) for on in ("on", "off")]
    assert [type(each.batches.pixels) for each in data] == [CroppedPixels, CroppedPixels]
    assert [type(each.batches.pixels.pictures) for each in data] == [StoredPictures, WholePictures]
    assert all(torch.equal(a, b) for a, b in zip(*map(batches, data), strict=True))
    assert sum(f"train: {CACHED}" in line for line in said) == 1
    assert sum(f"train: {DECODED}" in line for line in said) == 1
    names = sorted(path.name.rsplit("_", 3)[0] for path in data[0].stores)
    assert names == ["imagefolder_train_6_whole", "imagefolder_val_2"]
    assert data[1].stores == set()


def test_auto_takes_no_store_that_would_not_stay_in_memory(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    monkeypatch.setattr(stores, "_memory", lambda: 20_000)  # 28 KB are needed
    assert isinstance(opened(settings_of(tree)).batches.pixels.pictures, WholePictures)
    assert any("would not stay in memory" in line and "cache=on makes it all the same" in line for line in said)
    monkeypatch.setattr(stores, "_memory", lambda: 30_000)
    assert isinstance(opened(settings_of(tree)).batches.pixels.pictures, StoredPictures)


def test_cache_on_the_device_is_said_to_be_for_pictures_of_one_shape(tree: Path, said: list[str]) -> None:
    opened(settings_of(tree, "dataset.cache=device"))
    assert any(line.startswith("train: pictures of many shapes stay on the disk") for line in said)
    assert any(line.startswith("val: The store lies in memory") for line in said)


def test_broken_pictures_are_left_out_of_a_store_of_whole_ones(tree: Path) -> None:
    (tree / "train" / "a" / "1.png").write_bytes(b"x")
    for cache in ("on", "off"):
        data = opened(settings_of(tree, f"dataset.cache={cache}", "dataset.skip_broken=true"))
        assert data.batches.indices.tolist() == [0, 2, 3, 4, 5]


def test_a_short_side_is_of_crops(tree: Path) -> None:
    with pytest.raises(InputError, match=r"augment\.short_side=20 is of random resized crops: add augment\.area"):
        opened(settings_of(tree, "augment.area=null", "augment.short_side=20"))


def test_the_same_folder_twice_is_told(tree: Path, said: list[str]) -> None:
    """By its name, or by a link."""
    (tree / "again").symlink_to(tree / "train")
    for name, told in (("train", 1), ("again", 2), ("val", 2)):
        dataset = settings_of(tree, f"dataset.eval_split={name}").dataset
        pixels.read_splits(dataset, ["train", name])
        assert sum("are the same images: what is tested on is learnt, too" in line for line in said) == told


def test_small_arrays_go_to_the_device(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Asked for, and of themselves to a GPU; not where RandAugment works on the host's pixels, which is said."""
    array = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    split: Any = type("Small", (), {"images": ArrayImages(array, "x"), "name": "train", "__len__": lambda _: 6})()
    with conf_folder():
        words = ["dataset=cifar100", "dataset.root=x", "gpus=[]"]
        off, on = (compose(Train, [*words, f"dataset.cache={c}", *more]).settings
                   for c, more in (("auto", []), ("device", ["augment.randaugment=2"])))  # fmt: skip
    assert isinstance(pixels.open_pixels(split, off.dataset, 0, CPU)[0], ArrayPixels)
    source, usable = pixels.open_pixels(split, on.dataset, 0, CPU)
    assert isinstance(source, ResidentPixels)
    index = [np.array([5, 0, 2])]
    assert np.array_equal(next(source.stream(index)).numpy(), array[index[0]])
    assert (source.store, usable.tolist()) == (None, [0, 1, 2, 3, 4, 5])
    assert "train: The pictures lie in memory" in said[-1]
    copied: list[Any] = []
    monkeypatch.setattr(room, "_copied", lambda pixels, device: copied.append(device) or torch.empty(0))
    monkeypatch.setattr(room, "free_bytes", lambda _: 10**9)
    room.resident(ArrayPixels(array), torch.device("cuda", 0), "auto")
    assert copied == [torch.device("cuda", 0)]
    assert pixels.resident_on(off, CPU) == CPU
    assert pixels.resident_on(on, CPU) is None
    assert "pixels stay on the host, where RandAugment works on them" in said[-1]


def test_a_store_changes_no_bit_of_detection(tmp_path: Path, said: list[str]) -> None:
    """Training and evaluation see the same pictures, of their own shapes, with the same boxes."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        rows = ["path,label,xmin,ymin,xmax,ymax"]
        for i, shape in enumerate(((40, 50), (50, 40), (45, 45), (40, 60))):
            Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)).save(tmp_path / f"{split}{i}.png")
            rows.append(f"{split}{i}.png,x,{i},2,30,33")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows) + "\n")
    found = []
    for cache in ("on", "off"):
        words = ("dataset=boxes", f"dataset.root={tmp_path}", f"dataset.cache_dir={tmp_path}/cache", "dataset.size=64",
                 f"dataset.cache={cache}", "batch_size=2", "workers=0", "gpus=[]")  # fmt: skip
        with conf_folder():
            settings = compose(Train, rewrite("train", words)).settings
        task = open_task(settings.dataset)
        data = task.training_data(*task.read(settings.dataset, ["train", "test"]), settings, CPU)
        found.append([batch for loader in (data.batches, data.test) for batch in loader.epoch(1)])
        assert len(data.stores) == (2 if cache == "on" else 0)
    assert len(found[0]) == len(found[1]) > 2
    for ours, theirs in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True))
        assert [t["boxes"].tolist() for t in ours.targets] == [t["boxes"].tolist() for t in theirs.targets]
    assert any(f"train: {CACHED}" in line for line in said)
