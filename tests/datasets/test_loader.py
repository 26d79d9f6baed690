from collections.abc import Generator, Iterable
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lshfm.datasets.augment import Augment, normalise
from lshfm.datasets.cutting import Index, Share
from lshfm.datasets.images import FileImages
from lshfm.datasets.keyed import permutation
from lshfm.datasets.loader import Batch, DecodedPixels, Loader, PixelSource, StoredPixels, View, batches
from lshfm.datasets.split import BrokenImage, Pixels
from lshfm.datasets.store import open_store
from lshfm.errors import InputError

N, SIZE = 23, 8
VIEW = View((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), Augment())
PLAIN = View((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LABELS = (np.arange(N * 3).reshape(N, 3) % 3 - 1).astype(np.int8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> FileImages:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(N):
        noise = np.random.default_rng(i).integers(0, 256, (11, 9, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return FileImages(tuple(folder / f"{i}.png" for i in range(N)))


@pytest.fixture(scope="module")
def stored(images: FileImages, tmp_path_factory: pytest.TempPathFactory) -> StoredPixels:
    folder = tmp_path_factory.mktemp("cache")
    store = open_store(images, SIZE, folder, name="train", workers=0, report=lambda done, total: None)
    return StoredPixels(store)


def loader(pixels: PixelSource, **options: object) -> Loader:
    defaults = {"batch_size": 5, "device": CPU, "view": VIEW, "shuffle": True, "drop_last": True, "seed": 4}
    return Loader(pixels, LABELS, **(defaults | options))  # type: ignore[arg-type]


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.epoch == b.epoch


def test_an_epoch_of_training(images: FileImages, stored: StoredPixels) -> None:
    train = loader(stored)
    epoch = list(train.epoch(2))
    assert len(epoch) == len(train) == 4
    assert torch.cat([b.index for b in epoch]).tolist() == permutation(4, 2, N)[:20].tolist()
    for batch in epoch:
        assert batch.index.dtype == torch.int64
        assert batch.epoch == 2
        assert batch.labels.dtype == torch.int8
        np.testing.assert_array_equal(batch.labels.numpy(), LABELS[batch.index.numpy()])
        pixels = torch.from_numpy(np.stack([images.pixels(int(i), SIZE) for i in batch.index]))
        assert torch.equal(batch.images, VIEW(pixels, batch.index, seed=4, epoch=2))


def test_an_evaluation_keeps_order_and_remainder(images: FileImages, stored: StoredPixels) -> None:
    epoch = list(loader(stored, view=PLAIN, shuffle=False, drop_last=False).epoch(0))
    assert [len(b.index) for b in epoch] == [5, 5, 5, 5, 3]
    assert torch.cat([b.index for b in epoch]).tolist() == list(range(N))
    expected = np.stack([images.pixels(i, SIZE) for i in range(N)]).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(torch.cat([b.images for b in epoch]).numpy(), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_equals_the_store(images: FileImages, stored: StoredPixels, workers: int) -> None:
    decoded = DecodedPixels(images, SIZE, workers)
    assert_same(list(loader(decoded).epoch(1)), list(loader(stored).epoch(1)))


class Counting:
    """Pictures that note which of them are asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return N

    def pixels(self, index: int, size: int) -> Pixels:
        self.asked.append(index)
        if index == 13:
            raise BrokenImage("13.jpg", "is damaged")
        return np.full((size, size, 3), index, np.uint8)

    def signature(self) -> str:
        return ""

    def fingerprint(self) -> str:
        return ""

    def where(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_resuming_gives_the_rest_and_decodes_nothing_else(stored: StoredPixels, start: int) -> None:
    assert_same(list(loader(stored).epoch(6, start)), list(loader(stored).epoch(6))[start:])
    counting = Counting()
    indices = np.delete(np.arange(N), 13)
    rest = list(loader(DecodedPixels(counting, SIZE), indices=indices).epoch(6, start))
    assert counting.asked == [i for batch in rest for i in batch.index.tolist()]


def test_a_subset_keeps_the_splits_indices(stored: StoredPixels) -> None:
    indices = np.array([1, 4, 5, 9, 16, 22])
    subset = loader(stored, indices=indices, batch_size=4, drop_last=False)
    assert len(subset) == 2
    epoch = list(subset.epoch(0))
    order = torch.cat([b.index for b in epoch]).tolist()
    assert order == indices[permutation(4, 0, 6)].tolist()
    np.testing.assert_array_equal(torch.cat([b.labels for b in epoch]).numpy(), LABELS[order])


def test_a_samples_view_is_the_same_in_every_subset(stored: StoredPixels) -> None:
    """Holding images out, or leaving broken ones out, changes the view of no other."""

    def views(indices: np.ndarray) -> dict[int, torch.Tensor]:
        subset = loader(stored, indices=indices, batch_size=3, drop_last=False)
        return {int(i): x for b in subset.epoch(3) for i, x in zip(b.index, b.images, strict=True)}

    few, all_of_them = views(np.array([2, 3, 5, 7, 11])), views(np.arange(N))
    assert all(torch.equal(few[i], all_of_them[i]) for i in few)


def test_epochs_and_seeds_differ(stored: StoredPixels) -> None:
    def first(seed: int, epoch: int) -> Batch:
        return next(iter(loader(stored, seed=seed).epoch(epoch)))

    batches = [first(0, 0), first(0, 1), first(1, 0)]
    assert len({tuple(b.index.tolist()) for b in batches}) == 3
    assert_same([first(1, 0)], [batches[2]])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_broken_image_is_one_clear_error(workers: int) -> None:
    decoded = DecodedPixels(Counting(), SIZE, workers, "Leave it out")
    with pytest.raises(InputError) as caught:
        list(loader(decoded, shuffle=False).epoch(0))
    assert str(caught.value) == "13.jpg is damaged\nLeave it out"
    assert caught.value.__cause__ is None


def test_an_epoch_can_be_left_and_begun_again(images: FileImages, stored: StoredPixels) -> None:
    train = loader(stored)
    assert len(list(islice(train.epoch(0), 2))) == 2
    assert_same(list(train.epoch(0)), list(loader(stored).epoch(0)))


@given(st.integers(0, 60), st.integers(1, 70), st.booleans())
def test_batches_cut_an_order(n: int, batch_size: int, drop_last: bool) -> None:
    order = np.arange(n) * 3
    cut = batches(order, batch_size, drop_last)
    assert all(len(b) == batch_size for b in (cut if drop_last else cut[:-1]))
    assert all(0 < len(b) <= batch_size for b in cut)
    kept = n // batch_size * batch_size if drop_last else n
    assert [i for b in cut for i in b.tolist()] == order[:kept].tolist()


def test_a_batch_larger_than_the_split(stored: StoredPixels) -> None:
    with pytest.raises(InputError, match=r"batch_size=24 .* 23 images"):
        loader(stored, batch_size=24)
    assert len(loader(stored, batch_size=24, drop_last=False)) == 1
    assert len(loader(stored, batch_size=23)) == 1


class Blank:
    """So many pictures that cost nothing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def stream(self, batches: Iterable[Index]) -> Generator[Pixels, None, None]:
        for index in batches:
            yield np.zeros((len(index), 2, 2, 3), np.uint8)


def numbers(count: int, ranks: int, **options: Any) -> list[list[list[int]]]:
    """The samples of every step of every rank, in epoch 3 of a set of so many."""
    labels = np.zeros((count, 1), np.int8)
    defaults = {"device": CPU, "view": PLAIN, "seed": 4} | options
    loaders = [Loader(Blank(count), labels, share=Share(r, ranks), **defaults) for r in range(ranks)]
    steps = [[batch.index.tolist() for batch in loader.epoch(3)] for loader in loaders]
    assert [len(own) for own in steps] == [len(loader) for loader in loaders]
    assert loaders[0].images == sum(len(step) for own in steps for step in own)
    assert loaders[0].full == len(steps[0][0])
    return steps


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 40))
def test_every_rank_trains_on_its_part_of_every_batch(ranks: int, each: int, more: int) -> None:
    size = ranks * each
    options = {"batch_size": size, "shuffle": True, "drop_last": True}
    (whole,), parts = numbers(size + more, 1, **options), numbers(size + more, ranks, **options)
    assert len({len(own) for own in parts}) == 1
    assert all(len(part) == each for own in parts for part in own)
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == whole


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 40))
def test_every_batch_is_evaluated_whole_by_one_rank(ranks: int, size: int, count: int) -> None:
    options = {"batch_size": size, "shuffle": False, "drop_last": False}
    (whole,), parts = numbers(count, 1, **options), numbers(count, ranks, **options)
    assert sorted(chain(*parts)) == sorted(whole)
    assert sorted(chain(*chain(*parts))) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("start", [0, 2])
def test_a_ranks_images_are_those_of_the_whole_batch(stored: StoredPixels, start: int) -> None:
    whole = list(loader(stored, batch_size=6).epoch(2, start))
    for rank in range(3):
        own = list(loader(stored, batch_size=6, share=Share(rank, 3)).epoch(2, start))
        assert_same(own, [batch.split(3)[rank] for batch in whole])


def test_a_rank_may_have_nothing_to_evaluate(stored: StoredPixels) -> None:
    left_out = loader(stored, batch_size=20, drop_last=False, share=Share(2, 3))
    assert (len(left_out), list(left_out.epoch(0))) == (0, [])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [None, Augment()])
def test_views_are_the_same_however_they_are_cut(
    channels_last: bool, augment: Augment | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View(VIEW.mean, VIEW.std, augment, channels_last)
    pixels = torch.randint(0, 256, (7, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(7)
    whole = view(pixels, index, seed=1, epoch=2)
    by_hand = pixels if augment is None else augment(pixels, index, seed=1, epoch=2)
    assert torch.equal(whole, normalise(by_hand, VIEW.mean, VIEW.std))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert whole.is_contiguous(memory_format=layout)
    for fits in (1, 81, 170, 10_000):
        monkeypatch.setattr("lshfm.datasets.loader._CACHED_PIXELS", fits)
        cut = view(pixels, index, seed=1, epoch=2)
        assert torch.equal(cut, whole)
        assert cut.is_contiguous(memory_format=layout)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_batches_on_a_gpu_equal_those_on_the_cpu(stored: StoredPixels) -> None:
    ours = list(loader(stored, device=torch.device("cuda")).epoch(0))
    assert all(b.images.is_cuda and b.labels.is_cuda and not b.index.is_cuda for b in ours)
    ours = [Batch(b.index, b.images.cpu(), b.labels.cpu(), b.epoch) for b in ours]
    assert_same(ours, list(loader(stored).epoch(0)))
