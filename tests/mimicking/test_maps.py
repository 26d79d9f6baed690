"""Losses on maps of networks that do not fit are refused before anything is computed."""

import pytest
from torch import nn

from lshfm.config.groups import MimicLoss
from lshfm.errors import InputError
from lshfm.mimicking.maps import check_maps
from lshfm.models.cifar import cifar_classifier
from tests.jobs import job

pytestmark = pytest.mark.usefixtures("hydra")


def check(loss: MimicLoss, student: nn.Module, teacher: nn.Module) -> None:
    check_maps(loss, student, teacher, 32)


def test_maps_that_do_not_fit_are_told() -> None:
    small, wide, vgg = (cifar_classifier(name, 10).train() for name in ("resnet8", "resnet8x4", "vgg8"))
    at, hint, kd = (job("stage=2", f"loss={name}").settings.loss for name in ("at", "hint", "kd"))
    check(at, small, wide)
    assert small.training
    with pytest.raises(InputError, match="the student has 4 stages and the teacher 3"):
        check(at, vgg, small)
    with pytest.raises(InputError, match="stage 1 has 32 in the student and 128 in the teacher"):
        check(hint, small, wide)
    with pytest.raises(InputError, match=r"Linear has no maps\(images\), which the chosen loss compares"):
        check(at, nn.Linear(2, 2), small)
    check(kd, nn.Linear(2, 2), small)  # which compares no maps
