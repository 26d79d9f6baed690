"""Random resized crops on decode, padding and cropping, mixup and cutmix: keyed, and equal to other libraries'."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from lshfm.datasets import mixing
from lshfm.datasets.augment import Augment
from lshfm.datasets.cropped_pixels import CroppedPixels
from lshfm.datasets.cutting import Share
from lshfm.datasets.images import FileImages
from lshfm.datasets.in_memory import ArrayPixels
from lshfm.datasets.loader import Batch, Loader, View
from lshfm.datasets.mixing import Mixing, rectangle
from lshfm.datasets.pad_crop import offsets, pad_crop
from lshfm.datasets.random_crop import RATIO, crop_box, cropped, numbers_of
from lshfm.datasets.shapes import DrawnImages
from lshfm.errors import InputError

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path: Path) -> FileImages:
    random = np.random.default_rng(0)
    for i, shape in enumerate(((40, 30), (31, 57), (20, 90), (64, 64))):
        Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return FileImages(tuple(tmp_path / f"{i}.png" for i in range(4)))


def test_boxes_keep_to_area_and_ratio() -> None:
    drawn = [crop_box(500, 375, (0.08, 1.0), numbers_of(i, seed=0, epoch=0)) for i in range(3000)]
    areas = np.array([(r - x) * (b - y) for x, y, r, b in drawn]) / (500 * 375)
    ratios = np.array([(r - x) / (b - y) for x, y, r, b in drawn])
    assert all(0 <= x < r <= 500 and 0 <= y < b <= 375 for x, y, r, b in drawn)
    assert areas.min() > 0.079
    assert areas.max() < 1.001
    assert 0.40 < areas.mean() < 0.46  # as torchvision: of the uniform ones the largest fit less often
    assert RATIO[0] * 0.98 < ratios.min() < ratios.max() < RATIO[1] * 1.02
    assert abs(np.log(ratios).mean()) < 0.03  # uniform in the logarithm, so around 1


@pytest.mark.parametrize(("size", "expected"), [((900, 30), (430, 0, 470, 30)), ((30, 900), (0, 430, 30, 470))])
def test_a_long_picture_falls_back_to_its_middle(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    never = np.tile([0.999, 0.5, 0.0, 0.0], (10, 1))
    assert crop_box(*size, (0.9, 1.0), never) == expected


def test_pixels_are_torchvisions_resized_crop(images: FileImages) -> None:
    for i in range(4):
        picture, numbers = images.picture(i), numbers_of(i, seed=1, epoch=2)
        x, y, right, bottom = crop_box(*picture.size, (0.08, 1), numbers)
        expected = F.resized_crop(picture, y, x, bottom - y, right - x, [16, 16], antialias=True)
        assert (cropped(picture, 16, (0.08, 1), numbers) == np.array(expected)).all()


def test_crops_are_keyed_and_their_source_knows_the_plain_pictures(images: FileImages) -> None:
    source = CroppedPixels(images, 16, (0.08, 1.0))
    view = View((0.5,) * 3, (0.25,) * 3)
    settings = {"batch_size": 2, "device": CPU, "view": view, "shuffle": True, "drop_last": True}
    loader = Loader(source, np.zeros((4, 1), np.int8), **settings)
    first, again, later = (list(loader.epoch(epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    (resumed,) = loader.epoch(0, start=1)
    assert torch.equal(resumed.images, first[1].images)
    by_index = [
        {int(i): x for b in batches for i, x in zip(b.index, b.images, strict=True)} for batches in (first, later)
    ]
    assert not any(torch.equal(by_index[0][i], by_index[1][i]) for i in range(4))
    (plain,) = source.plain.stream([np.arange(4)])
    assert (plain == np.stack([images.pixels(i, 16) for i in range(4)])).all()


def test_what_cannot_be_cropped_is_refused(images: FileImages) -> None:
    for area in ((0.0, 1.0), (0.5, 0.2), (0.1, 1.5)):
        with pytest.raises(InputError, match="two shares of a picture's area"):
            CroppedPixels(images, 16, area)
    with pytest.raises(InputError, match="crops pictures in files; this data set has none"):
        CroppedPixels(DrawnImages(0, "train", 3), 16, (0.1, 1.0))


def test_padding_and_cropping_is_numpys() -> None:
    index = np.arange(6)
    cuts = offsets(index, 4, seed=3, epoch=5)
    found = pad_crop(PIXELS, cuts, 4)
    padded = np.pad(PIXELS.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)))
    for i, (top, left) in enumerate(cuts):
        assert (found[i].numpy() == padded[i, top : top + 8, left : left + 8]).all()
    many = offsets(np.arange(20_000), 4, seed=0, epoch=0)
    counts = np.bincount(many[:, 0] * 9 + many[:, 1], minlength=81)
    assert (many.min(), many.max()) == (0, 8)
    assert abs(counts / 20_000 - 1 / 81).max() < 0.004  # all 9 x 9 places alike


def test_the_crop_comes_before_the_flip_and_nothing_else_changes() -> None:
    index = torch.arange(6)
    augment = Augment(flip=1.0, brightness=0, contrast=0, saturation=0, pad=2)
    found = augment(PIXELS, index, seed=0, epoch=1)
    expected = pad_crop(PIXELS, offsets(np.arange(6), 2, seed=0, epoch=1), 2).flip(2)
    assert torch.equal(found, expected)
    without = Augment(flip=0.0, brightness=0, contrast=0, saturation=0)
    assert torch.equal(without(PIXELS, index, seed=0, epoch=1), PIXELS)
    with pytest.raises(InputError, match="pad=-1"):
        Augment(pad=-1)


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)


def test_mixup_is_the_blend_by_its_share() -> None:
    mixed, (others, share) = Mixing(mixup=0.4)(IMAGES, LABELS, LABELS, seed=0, epoch=0)
    torch.testing.assert_close(mixed, share * IMAGES + (1 - share) * IMAGES[others])
    assert sorted(others.tolist()) == LABELS.tolist()
    again, _ = Mixing(mixup=0.4)(IMAGES, LABELS, LABELS, seed=0, epoch=0)
    other, _ = Mixing(mixup=0.4)(IMAGES, LABELS, LABELS, seed=0, epoch=1)
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, other)
    assert others.tolist() == [1, 0, 3, 2, 5, 4]
    odd, (partners, _) = Mixing(mixup=0.4)(IMAGES[:5], LABELS[:5], LABELS, seed=0, epoch=0)
    assert torch.equal(odd[:4], mixed[:4])
    assert partners.tolist() == [1, 0, 3, 2, 4]
    torch.testing.assert_close(odd[4], IMAGES[4])


def test_ranks_mix_as_one_does() -> None:
    """The same pairs, kind, share and rectangle: both kinds are on, and every batch's draws are its own."""
    pixels = ArrayPixels(np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8))
    settings = {"batch_size": 8, "device": CPU, "view": View((0.5,) * 3, (0.25,) * 3, Augment()), "shuffle": True,
                "drop_last": True, "mixing": Mixing(0.4, 1.0)}  # fmt: skip
    whole = list(Loader(pixels, np.arange(48), **settings).epoch(2))
    parts = [list(Loader(pixels, np.arange(48), share=Share(rank, 2), **settings).epoch(2)) for rank in (0, 1)]
    for one, *two in zip(whole, *parts, strict=True):
        for name in ("index", "images", "labels", "second_labels"):
            assert torch.equal(getattr(one, name), torch.cat([getattr(each, name) for each in two]))
        assert all(torch.equal(one.share, each.share) for each in two)
    (resumed,) = Loader(pixels, np.arange(48), share=Share(1, 2), **settings).epoch(2, start=5)
    assert torch.equal(resumed.images, parts[1][5].images)


def test_cutmix_shares_by_pixels() -> None:
    for seed in range(8):
        mixed, (others, share) = Mixing(cutmix=1.0)(IMAGES, LABELS, LABELS, seed=seed, epoch=0)
        own = (mixed == IMAGES).all(1)
        theirs = (mixed == IMAGES[others]).all(1)
        assert (own | theirs).all()
        moved = others != LABELS
        assert torch.allclose(own[moved].float().mean((1, 2)), share)


def test_rectangles_are_cut_at_the_edge() -> None:
    assert rectangle(8, 8, 0.75, np.array([0.5, 0.5])) == (slice(2, 6), slice(2, 6))
    assert rectangle(8, 8, 0.75, np.array([0.0, 0.99])) == (slice(0, 2), slice(5, 8))
    assert rectangle(8, 8, 0.0, np.array([0.5, 0.5])) == (slice(0, 8), slice(0, 8))


def test_shares_are_drawn_from_beta() -> None:
    shares = [
        float(Mixing(mixup=0.2)(IMAGES[:1], LABELS[:1], torch.tensor([i]), seed=0, epoch=0)[1][1]) for i in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.015)


def test_parts_of_a_mixed_batch_keep_their_partners() -> None:
    whole = Batch(LABELS, IMAGES, LABELS, 0, LABELS.flip(0), torch.tensor(0.3))
    parts = whole.split(2)
    assert [part.labels.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5]]
    assert [part.second_labels.tolist() for part in parts] == [[5, 4, 3], [2, 1, 0]]
    assert all(part.share == whole.share for part in parts)


@pytest.mark.parametrize("value", [-1, math.inf, True])
def test_what_is_no_share(value: float) -> None:
    with pytest.raises(InputError, match="mixup="):
        Mixing(mixup=value)


def test_the_last_batch_is_kept_and_cut_to_a_multiple() -> None:
    class Zeros:
        def __len__(self) -> int:
            return 51

        def stream(self, batches):  # type: ignore[no-untyped-def]
            yield from (np.zeros((len(b), 4, 4, 3), np.uint8) for b in batches)

    settings = {"batch_size": 16, "device": CPU, "view": View((0.5,) * 3, (0.5,) * 3), "shuffle": True}
    sizes = {
        unit: [
            len(b.index) for b in Loader(Zeros(), np.zeros(51), drop_last=True, last_multiple=unit, **settings).epoch(0)
        ]
        for unit in (None, 1, 2, 4)
    }
    assert sizes == {None: [16, 16, 16], 1: [16, 16, 16, 3], 2: [16, 16, 16, 2], 4: [16, 16, 16]}


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_what_is_drawn_for_a_batch_goes_to_the_device_without_waiting(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[torch.dtype] = []
    monkeypatch.setattr(mixing, "send", lambda values, _device: sent.append(values.dtype) or values)
    mixed = Mixing(**{kind: 1.0})(torch.rand(3, 3, 4, 4), torch.arange(3), torch.arange(3), seed=0, epoch=0)
    assert sent == [torch.int64, torch.float32]
    assert mixed[0].shape == (3, 3, 4, 4)
