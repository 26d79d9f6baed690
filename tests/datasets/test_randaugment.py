"""RandAugment: torchvision's operations, keyed by sample and epoch."""

import warnings

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, autoaugment

from lshfm.datasets.in_memory import ArrayPixels
from lshfm.datasets.randaugment import OPERATIONS, RandAugmented
from lshfm.errors import InputError

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8)
EVERY = np.arange(5)


@pytest.mark.parametrize("magnitude", [9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_torchvisions(name: str, magnitude: int) -> None:
    image = Image.fromarray(ARRAY[0])
    table = autoaugment.RandAugment()._augmentation_space(31, (24, 24))
    assert set(table) == set(OPERATIONS)
    magnitudes, is_signed = table[name]
    size = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
    for sign in (1, -1) if is_signed else (1,):
        with warnings.catch_warnings(action="ignore"):
            expected = autoaugment._apply_op(image, name, sign * size, InterpolationMode.NEAREST, None)
        found = OPERATIONS[name](image, sign * magnitude / 30)
        assert (np.array(found) == np.array(expected)).all()


def test_pictures_are_keyed_and_the_plain_ones_stay() -> None:
    source = RandAugmented(ArrayPixels(ARRAY), 2)
    (first,), (again,), (later,) = (source.of_epoch(0, epoch).stream([EVERY]) for epoch in (0, 0, 1))
    (alone,) = source.of_epoch(0, 0).stream([EVERY[3:4]])
    assert (first == again).all()
    assert (first[3] == alone[0]).all()
    assert (first != later).any()
    (plain,) = source.plain.stream([EVERY])
    assert (plain == ARRAY).all()
    drawn = [name for i in range(2000) for name, _ in source.drawn(i)]
    assert {drawn.count(name) > 200 for name in OPERATIONS} == {True}  # 286 of each


def test_what_is_no_augmentation() -> None:
    for settings, name in (((0, 9), "randaugment=0"), ((1, 31), "magnitude=31")):
        with pytest.raises(InputError, match=name):
            RandAugmented(ArrayPixels(ARRAY), *settings)
