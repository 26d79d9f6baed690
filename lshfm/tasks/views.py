"""How a data set's pixels become a network's input, as the settings say."""

from lshfm.config.groups import Dataset
from lshfm.config.shared import Augmentation
from lshfm.datasets.augment import Augment
from lshfm.datasets.fused import FusedView
from lshfm.datasets.loader import View
from lshfm.errors import InputError


def make_view(dataset: Dataset, augment: Augmentation | None, *, channels_last: bool, fused: bool = False) -> View:
    """The view that turns pixels into a network's input; without augmentation if `augment` is None.

    fused: on a GPU by kernels made for it.
    """
    for name, numbers in (("mean", dataset.mean), ("std", dataset.std)):
        if len(numbers) != 3:
            raise InputError(f"dataset.{name}={numbers}: must be three numbers, for red, green and blue")
    change = augment and Augment(augment.flip, augment.brightness, augment.contrast, augment.saturation, augment.pad)
    kind = FusedView if fused and change and not change.pad else View  # the kernels know no padding
    return kind(tuple(dataset.mean), tuple(dataset.std), change, channels_last)  # type: ignore[arg-type]
