"""Batches of pictures with boxes: aspect groups, draws by (seed, epoch, image), mirroring, ranks."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lshfm.datasets import box_loader
from lshfm.datasets.box_loader import BoxLoader, BoxView, DecodedPictures, aspect_groups, grouped, send_all, target
from lshfm.datasets.boxes import COLUMNS, BoxSplit
from lshfm.datasets.cutting import Share
from lshfm.datasets.images import FileImages
from lshfm.errors import InputError

CPU = torch.device("cpu")
SHAPES = [(40, 20), (20, 40), (30, 30), (42, 20), (20, 41), (31, 30), (44, 20), (33, 30)]


def split_of(folder: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> BoxSplit:
    paths = []
    rng = np.random.default_rng(0)
    labels = np.zeros((len(shapes), 2, COLUMNS), np.float32)
    for number, (width, height) in enumerate(shapes):
        paths.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
        labels[number, 0] = (number + 1, 1, 2, 11, 14, 0, 120)
        labels[number, 1] = (3, 0, 0, 5, 5, 1, 25)  # difficult
    ids = tuple(map(str, range(len(shapes))))
    return BoxSplit("train", tuple("abcdefgh"), ids, labels, FileImages(tuple(paths)), np.array(shapes))


def loader(split: BoxSplit, *, flip: float = 0.5, shuffle: bool = True, share: Share | None = None) -> BoxLoader:
    view = BoxView((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), flip)
    return BoxLoader(
        DecodedPictures(split.images), split, batch_size=2, device=CPU, view=view, shuffle=shuffle,
        sizes=[16, 24, 32], seed=3, share=share or Share(),
    )  # fmt: skip


def test_aspect_groups_of_eight() -> None:
    """Edges at 2^(k/3); a value on an edge goes up."""
    sizes = np.array([[1, 4], [1, 2], [10, 10], [99, 100], [2, 1], [3, 1], [1260, 1000], [1259, 1000]])
    assert aspect_groups(sizes).tolist() == [0, 1, 4, 3, 7, 7, 5, 4]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6))
def test_an_epoch_has_every_picture(groups: list[int], size: int) -> None:
    """In whole batches of one group, as they fill; what is left of the groups comes last, group by group."""
    order = np.arange(len(groups)) + 100
    batches = grouped(order, np.array(groups), size)
    assert all(len(batch) == size for batch in batches)
    assert len(batches) == -(-len(groups) // size)
    assert set(np.concatenate(batches)) == set(order)
    of = [[groups[i - 100] for i in batch.tolist()] for batch in batches]
    whole = sum(groups.count(group) // size for group in set(groups))
    assert all(len(set(each)) == 1 for each in of[:whole])
    assert [max(batch) for batch in batches[:whole]] == sorted(max(batch) for batch in batches[:whole])
    left = [group for each in of[whole:] for group in each][: sum(groups.count(g) % size for g in set(groups))]
    assert left == sorted(left)


def test_what_is_left_is_completed_with_the_first_of_the_nearest_group() -> None:
    """4 of group 0, 3 of group 1, 1 of group 2 by threes: two full batches, and the two that are left with another."""
    order, groups = np.arange(8), np.array([0, 1, 0, 0, 1, 2, 0, 1])
    assert [batch.tolist() for batch in grouped(order, groups, 3)] == [[0, 2, 3], [1, 4, 7], [6, 5, 1]]
    assert [batch.tolist() for batch in grouped(order[:7], groups[:7], 3)] == [[0, 2, 3], [6, 1, 4], [5, 1, 4]]


def test_small_groups_come_in_every_epoch_on_every_number_of_ranks(tmp_path: Path) -> None:
    """Steps are as many as the published sampler's, and are counted without making them."""
    order, groups = np.arange(103), np.array([0] * 100 + [1] * 3)
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(103)
        assert set(np.concatenate(grouped(order, groups[order], 8))) == set(range(103))
    made = loader(split_of(tmp_path, SHAPES[:7]))
    for epoch in range(3):
        batches = list(made.epoch(epoch))
        assert {i for batch in batches for i in batch.index.tolist()} == set(range(7)) == set(made.used(epoch))
        assert len(batches) == 4
    with patch("lshfm.datasets.box_loader.grouped", side_effect=AssertionError):
        assert len(made) == len(loader(split_of(tmp_path, SHAPES[:7]), share=Share(1, 2))) == 4


def test_an_epoch_is_the_same_wherever_it_begins_and_another_the_next_time(tmp_path: Path) -> None:
    """So that a run that is resumed within an epoch goes on as it would have."""
    made = loader(split_of(tmp_path))
    whole, rest = list(made.epoch(1)), list(made.epoch(1, start=2))
    for ours, theirs in zip(whole[2:], rest, strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert ours.draws == theirs.draws
        assert all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True))
        assert ours.progress == theirs.progress
    assert whole[3].progress == 1.75
    other = list(made.epoch(2))
    assert [b.index.tolist() for b in other] != [b.index.tolist() for b in whole]
    assert {d.size for b in whole + other for d in b.draws} <= {16, 24, 32}
    assert len({d.seed for b in whole for d in b.draws}) == len({i for b in whole for i in b.index.tolist()}) > 4


def test_ranks_share_every_batch(tmp_path: Path) -> None:
    split = split_of(tmp_path)
    whole = list(loader(split).epoch(0))
    parts = [list(loader(split, share=Share(rank, 2)).epoch(0)) for rank in (0, 1)]
    for one, first, second in zip(whole, *parts, strict=True):
        assert one.index.tolist() == [*first.index.tolist(), *second.index.tolist()]
        assert one.draws == [*first.draws, *second.draws]
        assert torch.equal(one.images[1], second.images[0])


def test_pixels_and_boxes_are_mirrored_together(tmp_path: Path) -> None:
    """About half of the images, those of another epoch others; normalised; difficult objects are not there."""
    split = split_of(tmp_path)
    batches = loader(split, flip=0, shuffle=False).epoch(0)
    plain = {int(batch.index[i]): batch.images[i] for batch in batches for i in range(2)}
    turned: Counter[bool] = Counter()
    for batch in (b for epoch in range(6) for b in loader(split).epoch(epoch)):
        for index, image, objects in zip(batch.index.tolist(), batch.images, batch.targets, strict=True):
            width = SHAPES[index][0]
            is_turned = torch.equal(image, plain[index].flip(2))
            assert is_turned or torch.equal(image, plain[index])
            assert objects["boxes"].tolist() == [[width - 11, 2, width - 1, 14] if is_turned else [1, 2, 11, 14]]
            assert objects["labels"].tolist() == [index + 1]
            turned[is_turned] += 1
    assert 12 < turned[True] < 36
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "0.png"))).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(plain[0], expected)


def test_in_order_every_picture_once(tmp_path: Path) -> None:
    batches = list(loader(split_of(tmp_path), shuffle=False).epoch(0))
    assert [i for batch in batches for i in batch.index.tolist()] == list(range(8))


def test_boxes_are_cut_to_the_picture_as_it_is() -> None:
    """Whatever its annotation says of its size."""
    rows = np.array([[2, 5, 5, 30, 30, 0, 625], [4, 25, 0, 30, 9, 0, 45]], np.float32)
    found = target(rows, 20, 20, mirrored=False)
    assert found["boxes"].tolist() == [[5, 5, 20, 20]]
    assert found["labels"].tolist() == [2]


def test_a_batch_in_parts(tmp_path: Path) -> None:
    batch = next(iter(loader(split_of(tmp_path)).epoch(0)))
    first, second = batch.split(2)
    assert (first.index.tolist(), second.index.tolist()) == ([batch.index[0]], [batch.index[1]])
    assert second.images[0] is batch.images[1]
    assert second.draws == batch.draws[1:]


def test_what_lies_on_the_device_is_named(tmp_path: Path) -> None:
    """The next batch is made on another stream, which hands over all of this."""
    batch = next(iter(loader(split_of(tmp_path)).epoch(0)))
    assert batch.columns["image 1"] is batch.images[1]
    assert batch.columns["boxes 0"] is batch.targets[0]["boxes"]
    assert set(batch.columns) == {f"{name} {i}" for name in ("image", "boxes", "labels") for i in (0, 1)}


def test_tensors_that_are_sent_together_arrive_as_they_were() -> None:
    """Of other shapes and empty ones; a device that is none of the CPU's makes one copy of all."""
    values = [torch.arange(6).view(2, 3), torch.zeros(0, 4, dtype=torch.int64), torch.arange(4).view(1, 4)]
    assert send_all(values, CPU)[0] is values[0]
    sent = []
    with patch.object(box_loader, "send", lambda flat, device: sent.append(flat) or flat):
        found = send_all(values, torch.device("cuda"))
    assert len(sent) == 1
    assert all(torch.equal(a, b) and a.shape == b.shape for a, b in zip(found, values, strict=True))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    split = split_of(tmp_path)
    (tmp_path / "3.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"3\.png is not an image that Pillow reads\nMend it"):
        list(loader(split).epoch(0))


def test_a_picture_that_is_not_as_large_as_annotated_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = split_of(tmp_path)
    wrong = replace(split, sizes=split.sizes * [[1, 2]])
    with caplog.at_level(logging.WARNING, "lshfm"):
        list(loader(split, shuffle=False).epoch(0))
        assert not caplog.text
        batches = loader(wrong, shuffle=False)
        list(batches.epoch(0))
        list(batches.epoch(1))
    (told,) = [record.getMessage() for record in caplog.records]
    assert "0.png is 40 x 20, and annotated as 40 x 40: its boxes are cut to both; lshfm check lists such" in told
    caplog.clear()
    with caplog.at_level(logging.WARNING, "lshfm"):
        list(loader(replace(wrong, labels=np.zeros_like(split.labels)), shuffle=False).epoch(0))
    assert not caplog.text  # without boxes
