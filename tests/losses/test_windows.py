"""Losses on 3x3 windows of maps, against windows that are unfolded and the losses on features."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.losses import windows as module
from lshfm.losses.features import L1, L2
from lshfm.losses.lsh import LSH, HashFunctions
from lshfm.losses.windows import agreement, on_windows

CHANNELS, NUM = 4, 24


def functions(bias: bool = True) -> HashFunctions:
    torch.manual_seed(3)
    return HashFunctions(torch.randn(NUM, 9 * CHANNELS), torch.randn(NUM) * bias, 1.0, 0, "median")


def maps(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(3, CHANNELS, h, w, dtype=dtype) for h, w in ((5, 4), (2, 3))]


def some(seed: int) -> list[Tensor]:
    """About half of the positions; none of the last image."""
    torch.manual_seed(seed)
    kept = [torch.rand(3, h, w) > 0.5 for h, w in ((5, 4), (2, 3))]
    for each in kept:
        each[-1] = False
    return kept


def unfolded(loss: nn.Module, maps_s: list[Tensor], maps_t: list[Tensor], kept: list[Tensor]) -> Tensor:
    """Mean of the loss over the images that keep any position, on (positions, D)."""

    def rows(levels: list[Tensor], image: int) -> Tensor:
        found = [F.unfold(each[image : image + 1], 3, padding=1)[0].T for each in levels]
        return torch.cat(found)[torch.cat([each[image].flatten() for each in kept])]

    there = [i for i in range(len(kept[0])) if any(each[i].any() for each in kept)]
    return torch.stack([loss(rows(maps_s, i), rows(maps_t, i)) for i in there]).mean()


LOSSES = [L1(), L2(), *(LSH(functions(), form) for form in ("bce", "l1", "l2"))]


@pytest.mark.parametrize("which", ["all", "some"])
@pytest.mark.parametrize("loss", LOSSES, ids=["l1", "l2", "bce", "lsh_l1", "lsh_l2"])
def test_value_and_gradient_of_unfolded_windows(loss: nn.Module, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges, positions that are left out, several levels, and hash functions in several cuts."""
    monkeypatch.setattr(module, "CHUNK", 7)
    ours, theirs = maps(0), maps(1)
    kept = some(2) if which == "some" else [torch.ones(each.shape[0], *each.shape[2:]) > 0 for each in ours]
    plain = [each.clone().requires_grad_() for each in ours]
    for each in ours:
        each.requires_grad_()
    got = on_windows(loss)(ours, theirs, kept)
    expected = unfolded(loss, plain, theirs, kept)
    torch.testing.assert_close(got, expected)
    (3 * got).backward()
    (3 * expected).backward()
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_no_position_at_all_gives_zero_and_a_gradient() -> None:
    """So that every rank runs the same backward pass."""
    ours = [each.requires_grad_() for each in maps(0)]
    none = [torch.zeros(each.shape[0], *each.shape[2:]) > 0 for each in ours]
    for loss in LOSSES:
        got = on_windows(loss)(ours, maps(1), none)
        got.backward()
        assert got.item() == 0
        assert all(each.grad is not None and not each.grad.any() for each in ours)


def test_double_precision_stays() -> None:
    ours, theirs = maps(0, torch.float64), maps(1, torch.float64)
    kept = [torch.ones(each.shape[0], *each.shape[2:]) > 0 for each in ours]
    assert on_windows(LSH(functions()))(ours, theirs, kept).dtype == torch.float64


def test_a_loss_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no form for RetinaNet's windows"):
        on_windows(nn.Linear(1, 1))


def rectified(seed: int, *, offset: float = 0.0) -> list[Tensor]:
    """Maps as behind a ReLU. offset: the same number in every channel, beside which they differ little."""
    torch.manual_seed(seed)
    return [torch.randn(2, 32, h, w).relu() + offset for h, w in ((12, 10), (6, 5))]


def many(balanced: bool = False) -> HashFunctions:
    """300 functions without a bias; balanced: each gives 0 for a map that is the same everywhere, but for its edges."""
    torch.manual_seed(4)
    weights = torch.randn(300, 9 * 32)
    weights -= weights.mean(1, keepdim=True) * balanced
    return HashFunctions(weights, torch.zeros(300), 1.0, 0, "zero")


def everywhere(levels: list[Tensor]) -> list[Tensor]:
    return [torch.ones(len(each), *each.shape[2:], dtype=torch.bool) for each in levels]


def hastened(loss: LSH) -> module.WindowLSH:
    term = module.WindowLSH(loss)
    term.hasten(bf16=True, compiled=False)
    return term


def test_bits_are_the_same_in_fp32_and_nearly_so_in_bf16() -> None:
    found = many()
    assert agreement(rectified(0), found.weights, found.bias, torch.float32) == 1
    assert 0.995 < agreement(rectified(0), found.weights, found.bias, torch.bfloat16) < 1


def test_products_are_in_bf16_where_the_bits_agree(caplog: pytest.LogCaptureFixture) -> None:
    """Value and gradient stay close to those of fp32; they are tried once, and said."""
    term, plain = hastened(LSH(many())), module.WindowLSH(LSH(many()))
    gradients = []
    with caplog.at_level("INFO", "lshfm"):
        for loss in (term, term, plain):
            ours = [each.requires_grad_() for each in rectified(0)]
            value = loss(ours, rectified(1), everywhere(ours))
            value.backward()
            gradients.append((value.detach(), torch.cat([each.grad.flatten() for each in ours])))
    assert term.products == torch.bfloat16
    assert [m[: m.index(";")] for m in caplog.messages] == ["hashes of windows: products in bf16"]
    (coarse, slopes), (exact, expected) = gradients[1:]
    assert coarse.dtype == torch.float32
    assert coarse == pytest.approx(exact.item(), rel=2e-3)
    assert F.cosine_similarity(slopes, expected, dim=0) > 0.999


def test_products_stay_in_fp32_where_bf16_flips_bits(caplog: pytest.LogCaptureFixture) -> None:
    """Small differences beside a large common part, which the hash functions do not see and bf16 rounds away."""
    term = hastened(LSH(many(balanced=True)))
    maps_s, maps_t = rectified(0, offset=500), rectified(1, offset=500)
    with caplog.at_level("INFO", "lshfm"):
        got = term(maps_s, maps_t, everywhere(maps_s))
    assert term.products is None
    assert "hashes of windows: products in fp32; of bits in bf16 " in caplog.text
    assert torch.equal(got, module.WindowLSH(LSH(many(balanced=True)))(maps_s, maps_t, everywhere(maps_s)))


@pytest.mark.parametrize("loss", LOSSES, ids=["l1", "l2", "bce", "lsh_l1", "lsh_l2"])
def test_maps_in_bf16_are_summed_in_fp32(loss: nn.Module) -> None:
    """As autocast gives them: the same as of maps in fp32 with the same values, and a gradient in the maps' kind."""
    ours, theirs = ([each.bfloat16() for each in maps(seed)] for seed in (0, 1))
    for each in ours:
        each.requires_grad_()
    got = on_windows(loss)(ours, theirs, everywhere(ours))
    got.backward()
    assert got.dtype == torch.float32
    assert all(each.grad is not None and each.grad.dtype == torch.bfloat16 for each in ours)
    single = [[each.detach().float() for each in levels] for levels in (ours, theirs)]
    torch.testing.assert_close(got, on_windows(loss)(*single, everywhere(ours)))


def test_images_go_in_parts_that_bound_the_hashes_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 800 x 1088 pixels, and the same value whatever the parts."""
    largest = torch.empty(8, 256, 100, 136, device="meta")
    sizes = [part.stop - part.start for part in module._parts(largest)]
    assert sizes[0] * 2 * module.CHUNK * 100 * 136 <= module.ENTRIES < (sizes[0] + 1) * 2 * module.CHUNK * 100 * 136
    ours, loss = maps(0), module.WindowLSH(LSH(functions()))
    whole = loss(ours, maps(1), everywhere(ours))
    monkeypatch.setattr(module, "ENTRIES", 1)
    assert [part.stop - part.start for part in module._parts(ours[0])] == [1, 1, 1]
    torch.testing.assert_close(loss(ours, maps(1), everywhere(ours)), whole)


def test_hashes_are_compared_as_ever_where_that_cannot_be_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(function: object, **_: object) -> object:
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", failing)
    term = module.WindowLSH(LSH(functions()))
    before = term.compare
    term.hasten(bf16=False, compiled=True)
    with caplog.at_level("INFO", "lshfm"):
        term(maps(0), maps(1), everywhere(maps(0)))
    assert term.compare is before
    assert caplog.messages == ["hashes are compared operation by operation: no compiler"]
    assert term.products is None
