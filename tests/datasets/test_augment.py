"""Pillow and torchvision are the oracles: every value must be equal."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional

from lshfm.datasets.augment import Augment, Kind, jitter, mirror, normalise
from lshfm.datasets.images import FileImages
from lshfm.errors import InputError

ENHANCERS = {
    Kind.BRIGHTNESS: ImageEnhance.Brightness,
    Kind.CONTRAST: ImageEnhance.Contrast,
    Kind.SATURATION: ImageEnhance.Color,
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORDERS = [order for k in range(1, 4) for order in permutations(Kind, k)]


def pil_jitter(image: Image.Image, kinds: np.ndarray, factors: np.ndarray) -> Image.Image:
    for kind, factor in zip(kinds, factors, strict=True):
        image = ENHANCERS[Kind(kind)](image).enhance(float(factor))
    return image


@pytest.fixture(scope="module")
def photos(test_data: Path) -> torch.Tensor:
    """32 real images, uint8 (32, 448, 448, 3)."""
    paths = sorted((test_data / "VOCdevkit/VOC2007/JPEGImages").iterdir())[:32]
    images = FileImages(tuple(paths))
    return torch.from_numpy(np.stack([images.pixels(i, 448) for i in range(32)]))


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_real_images_equal_pillow(photos: torch.Tensor, strength: float) -> None:
    augment = Augment(0.5, strength, strength, strength)
    index = torch.arange(100, 132)
    ours = augment(photos, index, seed=3, epoch=5)

    flips = augment.flips(index.numpy(), seed=3, epoch=5)
    kinds, factors = augment.jitters(index.numpy(), seed=3, epoch=5)
    assert 5 < flips.sum() < 27
    assert len({tuple(k) for k in kinds}) == 6
    for b in range(32):
        image = Image.fromarray(photos[b].numpy())
        image = ImageOps.mirror(image) if flips[b] else image
        np.testing.assert_array_equal(ours[b].numpy(), np.array(pil_jitter(image, kinds[b], factors[b])))


@given(st.data())
def test_jitter_equals_pillow(data: st.DataObject) -> None:
    """Any sizes, orders and factors, beyond what a strength up to 1 can draw."""
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.just(3)))
    pixels = data.draw(hnp.arrays(np.uint8, shape))
    k = data.draw(st.integers(1, 3))
    orders = st.sampled_from([order for order in ORDERS if len(order) == k])
    kinds = np.array([data.draw(orders) for _ in pixels], np.int64)
    factors = data.draw(hnp.arrays(np.float64, kinds.shape, elements=st.floats(0, 3)))
    ours = jitter(torch.from_numpy(pixels), kinds, factors).numpy()
    theirs = [np.array(pil_jitter(Image.fromarray(p), *row)) for p, *row in zip(pixels, kinds, factors, strict=True)]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_every_grey_mean_that_ends_in_a_half_rounds_up() -> None:
    """Two grey pixels, n and n + 1: a contrast factor of 0 leaves their mean."""
    n = torch.arange(255, dtype=torch.uint8)
    pixels = torch.stack([n, n + 1], dim=1)[:, None, :, None].expand(-1, 1, 2, 3).contiguous()
    flat = jitter(pixels, np.full((255, 1), Kind.CONTRAST), np.zeros((255, 1)))
    assert torch.equal(flat, (pixels[:, :, 1:] * torch.ones_like(pixels)))


def test_all_colours_have_pillows_luma() -> None:
    """Each of 2^18 colours in steps of 4, and the extremes, as its own grey."""
    steps = torch.arange(0, 256, 4).to(torch.uint8)
    steps[-1] = 255
    colours = torch.cartesian_prod(steps, steps, steps).view(1, 512, 512, 3)
    ours = jitter(colours, np.array([[Kind.SATURATION]]), np.zeros((1, 1)))[0, :, :, 0]
    theirs = np.array(Image.fromarray(colours[0].numpy()).convert("L"))
    np.testing.assert_array_equal(ours.numpy(), theirs)


def test_means_of_large_bright_images_are_exact() -> None:
    """Their sum exceeds 2^24, where float32 stops counting."""
    pixels = torch.full((1, 600, 600, 3), 255, dtype=torch.uint8)
    pixels[0, :, :300] = 254
    assert jitter(pixels, np.array([[Kind.CONTRAST]]), np.zeros((1, 1))).unique().tolist() == [255]
    pixels[0, 0, 300] = 254
    assert jitter(pixels, np.array([[Kind.CONTRAST]]), np.zeros((1, 1))).unique().tolist() == [254]


def test_mirror() -> None:
    pixels = torch.arange(2 * 2 * 3 * 3, dtype=torch.uint8).view(2, 2, 3, 3)
    ours = mirror(pixels, np.array([False, True])).numpy()
    assert (ours[0] == pixels[0].numpy()).all()
    transposed = Image.fromarray(pixels[1].numpy()).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert (ours[1] == np.array(transposed)).all()


@given(st.integers(0, 2**31), st.integers(0, 100), st.permutations(range(12)), st.integers(1, 12))
def test_views_do_not_depend_on_the_batch(seed: int, epoch: int, order: list[int], cut: int) -> None:
    pixels = torch.arange(12 * 4 * 4 * 3).mul(37).remainder(256).to(torch.uint8).view(12, 4, 4, 3)
    augment = Augment()
    whole = augment(pixels, torch.arange(12), seed=seed, epoch=epoch)
    for part in torch.tensor(order).split(cut):
        assert torch.equal(augment(pixels[part], part, seed=seed, epoch=epoch), whole[part])


def test_views_differ_between_epochs_seeds_and_samples() -> None:
    pixels = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    views = {Augment()(pixels, torch.tensor([i]), seed=s, epoch=e).numpy().tobytes() for s, e, i in keys}
    assert len(views) == 4


def test_factors_are_uniform_and_orders_equally_frequent() -> None:
    augment = Augment(brightness=0.1, contrast=0.2, saturation=0.3)
    index = np.arange(12_000)
    kinds, factors = augment.jitters(index, seed=0, epoch=0)
    assert factors.shape == kinds.shape == (12_000, 3)
    for kind, strength in zip(Kind, (0.1, 0.2, 0.3), strict=True):
        drawn = factors[kinds == kind]
        assert len(drawn) == 12_000
        counts, _ = np.histogram(drawn, 20, (1 - strength, 1 + strength))
        assert counts.sum() == 12_000
        assert ((counts - 600) ** 2 / 600).sum() < 50  # 19 degrees of freedom
    _, counts = np.unique(kinds, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 2000) ** 2 / 2000).sum() < 26  # 5 degrees of freedom
    assert 0.47 < augment.flips(index, seed=0, epoch=0).mean() < 0.53


def test_zero_strengths_are_left_out() -> None:
    kinds, _ = Augment(contrast=0).jitters(np.arange(100), seed=0, epoch=0)
    assert kinds.shape == (100, 2)
    assert set(kinds.ravel().tolist()) == {Kind.BRIGHTNESS, Kind.SATURATION}
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert Augment(0, 0, 0, 0)(pixels, torch.arange(2), seed=0, epoch=0) is pixels


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalise_equals_torchvision(channels_last: bool) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(2, 1, 1, 3)
    pixels[1] = pixels[1].flip(0)
    ours = normalise(pixels, MEAN, STD, channels_last=channels_last)
    scaled = [functional.to_tensor(Image.fromarray(p.numpy())) for p in pixels]
    assert torch.equal(ours, torch.stack([functional.normalize(s, MEAN, STD) for s in scaled]))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert ours.is_contiguous(memory_format=layout)
    assert ours.dtype == torch.float32


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), True, "0.3", None])
@pytest.mark.parametrize("name", ["flip", "brightness", "contrast", "saturation"])
def test_bad_strengths_are_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{name}="):
        Augment(**{name: value})  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_equals_cpu() -> None:
    pixels = torch.randint(0, 256, (16, 448, 448, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(16)
    ours = Augment()(pixels.cuda(), index, seed=0, epoch=0)
    theirs = Augment()(pixels, index, seed=0, epoch=0)
    assert torch.equal(ours.cpu(), theirs)
    assert torch.equal(normalise(ours, MEAN, STD).cpu(), normalise(theirs, MEAN, STD))
