"""The frozen network and the pixels it sees."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lshfm.datasets.augment import normalise
from lshfm.datasets.loader import Batch
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.teacher import Normalisation, Teacher, renormalisation

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PIXELS = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, -1, -1, 3)
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Echo(nn.Module):
    """Gives back the images as its feature."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def resnet(**settings: Any) -> Teacher:
    torch.manual_seed(0)
    return Teacher(cifar_classifier("resnet8", 3, projection=5), **settings)


@pytest.mark.parametrize(("student", "teacher"), [(IMAGENET, HALVES), (HALVES, IMAGENET), (CLIP, IMAGENET)])
def test_every_pixel_value_arrives_as_with_the_teachers_own_mean_and_std(student: tuple, teacher: tuple) -> None:
    seen, _ = Teacher(Echo(), normalisation=renormalisation(*student, *teacher)).embed(normalise(PIXELS, *student))
    torch.testing.assert_close(seen, normalise(PIXELS, *teacher), atol=1e-6, rtol=0)
    assert not torch.allclose(seen, normalise(PIXELS, *student), atol=1e-3)


def test_scale_and_shift_by_hand() -> None:
    found = renormalisation([0.5, 0.25, 0.0], [0.5, 0.25, 1.0], [0.25, 0.25, 0.5], [0.25, 0.5, 0.5])
    assert found == Normalisation(scale=(2.0, 0.5, 2.0), shift=(1.0, 0.0, -1.0))


numbers = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


@given(numbers, numbers, numbers, numbers)
def test_there_and_back_again(mean_s: list[float], std_s: list[float], mean_t: list[float], std_t: list[float]) -> None:
    there = renormalisation(mean_s, std_s, mean_t, std_t) or Normalisation((1.0,) * 3, (0.0,) * 3)
    back = renormalisation(mean_t, std_t, mean_s, std_s) or Normalisation((1.0,) * 3, (0.0,) * 3)
    for scale, shift, scale_back, shift_back in zip(*there, *back, strict=True):
        assert scale * scale_back == pytest.approx(1)
        assert shift * scale_back + shift_back == pytest.approx(0, abs=1e-9)


def test_equal_normalisations_leave_the_pixels_alone() -> None:
    assert renormalisation(*IMAGENET, *map(list, IMAGENET)) is None
    seen, _ = Teacher(Echo()).embed(IMAGES)
    assert torch.equal(seen, IMAGES)
    assert seen.data_ptr() == IMAGES.data_ptr()


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5, 0.5, 0.5), (0.5, 0.0, 0.5)), ((0.5, 0.5, 0.5), (0.5, float("nan"), 0.5)), ((0.5,), (0.5,))],
)
def test_numbers_that_are_no_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"the teacher's mean=\[0\.5.* must be 3 numbers each.*above 0"):
        renormalisation(*IMAGENET, mean, std)


def test_nothing_switches_it_to_training() -> None:
    teacher = resnet()
    assert nn.ModuleList([teacher]).train().training
    assert teacher.train() is teacher
    assert not any(module.training for module in teacher.modules())
    buffers = {name: buffer.clone() for name, buffer in teacher.named_buffers()}
    teacher.embed(IMAGES)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in teacher.named_buffers())


def test_a_batch_is_its_images() -> None:
    teacher, batch = resnet(), Batch(torch.arange(2), IMAGES, torch.empty(0), epoch=3)
    assert all(map(torch.equal, teacher(batch), teacher.embed(IMAGES)))


def test_on_images_it_is_called_as_a_network() -> None:
    teacher = resnet(normalisation=Normalisation((2.0,) * 3, (1.0,) * 3))
    network = teacher.on_images.train()
    assert not any(module.training for module in teacher.modules())
    assert all(map(torch.equal, network(IMAGES), teacher.embed(IMAGES)))


def test_no_gradients_reach_or_pass_it() -> None:
    teacher = resnet()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert [output.requires_grad for output in teacher.embed(IMAGES.clone().requires_grad_())] == [False, False]


def test_the_network_itself_answers_in_eval_mode() -> None:
    teacher = resnet()
    with torch.no_grad():
        expected = teacher.network.eval()(IMAGES)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(teacher.embed(IMAGES), expected, strict=True))
    assert teacher.num_features == 5


def test_bf16_is_for_the_network_and_not_for_what_it_gives() -> None:
    teacher, inside = resnet(precision="bf16"), []
    teacher.network.classifier.register_forward_hook(lambda _m, _i, output: inside.append(output.dtype))
    assert [output.dtype for output in teacher.embed(IMAGES)] == [torch.float32, torch.float32]
    assert inside == [torch.bfloat16]


def test_the_normalisation_moves_along_and_is_not_saved() -> None:
    teacher = Teacher(Echo(), normalisation=renormalisation(*IMAGENET, *HALVES)).to("meta")
    assert {name: (b.device.type, tuple(b.shape)) for name, b in teacher.named_buffers()} == {
        "scale": ("meta", (3, 1, 1)),
        "shift": ("meta", (3, 1, 1)),
    }
    assert teacher.state_dict() == {}


def test_weights_are_cast_once_for_steps_and_change_no_bit() -> None:
    teacher, plain = resnet(precision="bf16"), resnet(precision="bf16")
    assert teacher.cast_once(IMAGES)
    batch = Batch(torch.arange(2), IMAGES, torch.zeros(2, 3), 0)
    assert all(map(torch.equal, teacher(batch), plain(batch)))
    kinds = {name: tensor.dtype for name, tensor in teacher._network_of_steps.state_dict().items()}
    assert kinds["classifier.weight"] == kinds["projection.weight"] == torch.bfloat16
    assert {kind for name, kind in kinds.items() if "running" in name} == {torch.float32}
    assert {p.dtype for p in teacher.network.parameters()} == {torch.float32}  # hashes and evaluations go by these
    teacher.wrap(lambda network: network)
    assert teacher._network_of_steps is not teacher.network
    assert not resnet().cast_once(IMAGES)


def test_a_network_that_computes_with_its_weights_itself_keeps_them() -> None:
    class Cosine(Echo):
        num_features = 3

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(8, 4)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            found = images @ nn.functional.normalize(self.linear.weight.float(), dim=1).T
            return found, found

    teacher = Teacher(Cosine(), precision="bf16")
    assert not teacher.cast_once(IMAGES)
    assert teacher._network_of_steps is teacher.network
