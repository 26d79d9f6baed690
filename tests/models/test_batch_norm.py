"""BatchNorm over groups of a batch, and over the images of all ranks."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.batch_norm import GroupedBatchNorm, SharedBatchNorm, set_statistics
from lshfm.models.cifar import cifar_classifier
from lshfm.ranks.group import Place, rank
from tests.groups import grouped, in_ranks

CPU = torch.device("cpu")
CHANNELS, BATCH = 3, 6
DESIGNS: list[dict[str, Any]] = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}]


def batches() -> Tensor:
    """Two of them, whose channels differ in place and spread: (2, B, C, 4, 4)."""
    images = torch.randn(2, BATCH, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))
    return images * torch.tensor([0.1, 1.0, 5.0]).view(-1, 1, 1) + torch.tensor([3.0, 0.0, -1.0]).view(-1, 1, 1)


def weigh(output: Tensor) -> Tensor:
    """The mean over images of a loss in which no two values count the same."""
    return (output.flatten(1) * torch.linspace(-1, 1, output[0].numel()) + output.flatten(1) ** 3).mean()


def layer(**design: Any) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(CHANNELS, **design)
    if made.affine:
        with torch.no_grad():
            made.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            made.bias.copy_(torch.tensor([0.1, 0.0, -0.3]))
    return made


def replaced(network: nn.Module, *, group_size: int | None = None, shared: bool = False) -> nn.Module:
    return set_statistics(network, group_size=group_size, shared=shared, device=CPU)


def results(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What a step in training computes: output and gradients."""
    given = images.clone().requires_grad_()
    output = network(given)
    network.zero_grad()
    weigh(output).backward()
    gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    return {"output": output.detach(), "gradient": given.grad, **gradients}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], atol=2e-6, rtol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


class TestGroups:
    @pytest.mark.parametrize("design", DESIGNS)
    @pytest.mark.parametrize("size", [1, 2, 3, 6])
    def test_each_group_is_normalised_by_itself_and_the_first_is_remembered(
        self, design: dict[str, Any], size: int
    ) -> None:
        one = layer(**design)
        others = [copy.deepcopy(one) for _ in range(BATCH // size)]
        grouped = replaced(nn.Sequential(copy.deepcopy(one)), group_size=size)
        assert type(grouped[0]) is GroupedBatchNorm  # type: ignore[index]
        for images in batches():
            found = results(grouped, images)
            apart = [results(nn.Sequential(n), part) for n, part in zip(others, images.split(size), strict=True)]
            wanted = {name: torch.stack([a[name] for a in apart]).mean(0) for name in found if "." in name}
            wanted["output"] = torch.cat([a["output"] for a in apart])
            wanted["gradient"] = torch.cat([a["gradient"] for a in apart]) / len(apart)  # of a mean over more images
            assert_close(found, wanted)
        assert_close(dict(grouped[0].named_buffers()), dict(others[0].named_buffers()))  # type: ignore[index]

    def test_a_group_of_the_whole_batch_is_batch_norm_to_the_bit(self) -> None:
        plain = nn.Sequential(layer())
        grouped = replaced(copy.deepcopy(plain), group_size=BATCH)
        ours, theirs = (results(network, batches()[0]) for network in (grouped, plain))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    def test_evaluation_knows_no_groups(self) -> None:
        plain = nn.Sequential(layer())
        plain(batches()[0])
        grouped = replaced(copy.deepcopy(plain), group_size=4)
        assert torch.equal(grouped.eval()(batches()[1]), plain.eval()(batches()[1]))


def _shared(design: dict[str, Any]) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    network = replaced(nn.Sequential(layer(**design)), shared=True)
    assert type(network[0]) is SharedBatchNorm  # type: ignore[index]
    found = [results(network, images.chunk(2)[rank()]) for images in batches()]
    return found, dict(network.named_buffers())


class TestAllRanks:
    @pytest.mark.parametrize("design", DESIGNS)
    def test_two_ranks_are_one_with_the_whole_batch(self, design: dict[str, Any]) -> None:
        plain = nn.Sequential(layer(**design))
        whole = [results(plain, images) for images in batches()]
        (first, buffers), (second, same_buffers) = in_ranks(2, _shared, design)
        for found in zip(first, second, whole, strict=True):
            *ranks, wanted = found
            together = {name: torch.stack([r[name] for r in ranks]).mean(0) for name in wanted if "." in name}
            together["output"] = torch.cat([r["output"] for r in ranks])
            together["gradient"] = torch.cat([r["gradient"] for r in ranks]) / 2  # losses are averaged later on
            assert_close(together, wanted)
        assert_close(buffers, dict(plain.named_buffers()))
        assert all(torch.equal(tensor, same_buffers[name]) for name, tensor in buffers.items())

    def test_evaluation_asks_no_other_rank(self) -> None:
        trained = layer()
        trained(batches()[0])
        with grouped(Place(), dist.HashStore()):
            shared = replaced(nn.Sequential(copy.deepcopy(trained)), shared=True)
        assert type(shared[0]) is SharedBatchNorm  # type: ignore[index]
        assert torch.equal(shared.eval()(batches()[1]), trained.eval()(batches()[1]))

    def test_bf16_comes_back_as_bf16_and_is_averaged_in_fp32(self) -> None:
        images = batches()[0]
        with grouped(Place(), dist.HashStore()):
            shared = replaced(nn.Sequential(layer()), shared=True)
            output = shared(images.bfloat16())
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.float(), layer()(images.bfloat16().float()), atol=0.02, rtol=0.01)


class TestReplacing:
    @pytest.fixture
    def one_rank(self) -> Iterator[None]:
        with grouped(Place(), dist.HashStore()):
            yield

    @pytest.mark.usefixtures("one_rank")
    @pytest.mark.parametrize("settings", [{"group_size": 2}, {"shared": True}])
    @pytest.mark.parametrize(
        "build", [lambda: cifar_classifier("resnet8", 3), lambda: torchvision_classifier("mobilenet_v2", 3)]
    )
    def test_every_layer_with_all_its_tensors(self, build: Any, settings: dict[str, Any]) -> None:
        network = build()
        for module in list(network.modules())[::2]:
            module.training = False
        before, modes = network.state_dict(keep_vars=True), {n: m.training for n, m in network.named_modules()}
        found = replaced(network, **settings)
        after = found.state_dict(keep_vars=True)
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        assert modes == {n: m.training for n, m in found.named_modules()}
        kind = GroupedBatchNorm if "group_size" in settings else SharedBatchNorm
        assert {type(m) for m in found.modules() if isinstance(m, nn.BatchNorm2d)} == {kind}

    @pytest.mark.usefixtures("one_rank")
    def test_on_gpus_torchs_own_layer_is_taken(self) -> None:
        found = set_statistics(nn.Sequential(layer()), group_size=None, shared=True, device=torch.device("cuda"))
        assert type(found[0]) is nn.SyncBatchNorm  # type: ignore[index]

    @pytest.mark.parametrize("shared", [False, True])
    def test_nothing_is_replaced_unasked_or_where_there_is_one_process(self, shared: bool) -> None:
        network = nn.Sequential(layer())
        assert replaced(network, shared=shared) is network
        assert type(network[0]) is nn.BatchNorm2d

    @pytest.mark.parametrize(
        ("network", "settings", "message"),
        [
            (layer(), {"group_size": 2, "shared": True}, "^sync_bn=true is .*: not both$"),
            (nn.Linear(2, 2), {"group_size": 2}, "^bn_group_size: the network has no BatchNorm layers$"),
            (nn.BatchNorm1d(2), {"group_size": 2}, "^bn_group_size: the network's BatchNorm1d layers cannot be "),
        ],
    )
    def test_refusals(self, network: nn.Module, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            replaced(nn.Sequential(network), **settings)

    @pytest.mark.usefixtures("one_rank")
    def test_refusals_of_sync_bn_name_it(self) -> None:
        with pytest.raises(InputError, match=r"^sync_bn: the network has no BatchNorm layers$"):
            replaced(nn.Linear(2, 2), shared=True)
