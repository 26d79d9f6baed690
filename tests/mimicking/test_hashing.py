"""The hash functions of a run: what is wanted, kept, taken from stage 1, or drawn anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lshfm.datasets.loader import Loader
from lshfm.errors import InputError, RunFailed
from lshfm.losses.lsh import draw_weights
from lshfm.mimicking import hashing
from lshfm.mimicking.hashing import Wanted, bias_images, prepare
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import num_ranks, rank
from lshfm.tasks import pixels
from tests.groups import ends_of, in_ranks
from tests.jobs import CPU, changed, job, split_of

IDS = tuple(f"image{i}" for i in range(6))
WANTED = Wanted(num=5, width=3, std=0.5, seed=1, rule="median", views="plain")


class Colours(nn.Module):
    """Feature: an image's mean colour, or 1/0 for an image that is black."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 4)
        nn.init.zeros_(self.classifier.weight)
        self.classifier.weight.data[:2] = 2.0
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        feature = images.mean((2, 3))
        feature = torch.where(feature.sum(1, keepdim=True) == 0, torch.inf, feature)
        return feature, self.classifier(feature)


class Images:
    """Batches of the loader's kind, a share of them for each rank; `values` is a mean colour each."""

    device = CPU

    def __init__(self, values: Sequence[float]) -> None:
        self.values, self.indices = values, np.arange(len(values))

    def __len__(self) -> int:
        return len(self._firsts())

    def epoch(self, epoch: int) -> Any:
        for first in self._firsts():
            index = torch.arange(first, min(first + 2, len(self.values)))
            colours = torch.tensor([[v, v * v, 1.0 - v] if v else [0.0] * 3 for v in self.values])[index]
            images = colours[:, :, None, None].expand(-1, -1, 2, 2)
            yield type("Batch", (), {"index": index, "images": images, "labels": torch.zeros(len(index), 1)})

    def _firsts(self) -> range:
        return range(0, len(self.values), 2)[rank() :: num_ranks()]


IMAGES: Any = Images([0.1, 0.9, 0.3, 0.7, 0.5, 0.2])


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(Colours())


def calls(teacher: Teacher) -> int:
    """Batches that the teacher has seen."""
    return int(teacher.network.calls)  # type: ignore[arg-type]


def wanted(**loss: Any) -> Wanted:
    settings = job("stage=2", "loss=lsh").settings
    assert settings.loss.hashing
    return Wanted.by(changed(settings.loss.hashing, loss), settings.seed, Teacher(Colours()))


@pytest.mark.usefixtures("hydra")
class TestWanted:
    def test_the_published_defaults(self) -> None:
        # Six entries 2 and six 0 about their mean 1: the unbiased deviation is sqrt(12 / 11).
        found = wanted()
        assert (found.num, found.width, found.seed, found.rule, found.views) == (96, 3, 0, "median", "plain")
        assert found.std == pytest.approx((12 / 11) ** 0.5, rel=1e-12)

    def test_what_is_typed(self) -> None:
        found = wanted(hash_num=7, std=0.25, bias="mean", bias_views="augmented")
        assert found == Wanted(7, 3, 0.25, 0, "mean", "augmented")

    @pytest.mark.parametrize("loss", [{"form": "l1"}, {"form": "l2"}, {"bias": "zero"}])
    def test_what_does_not_depend_on_a_bias_takes_none(self, loss: dict[str, Any]) -> None:
        found = wanted(bias_views="augmented", **loss)
        assert (found.rule, found.views) == ("zero", "plain")

    def test_a_teacher_whose_classifier_has_another_name(self) -> None:
        network = Colours()
        network.head = network.classifier
        del network.classifier
        hashing = job("stage=2", "loss=lsh").settings.loss.hashing
        assert hashing
        with pytest.raises(InputError, match="Colours has no layer called 'classifier'"):
            Wanted.by(hashing, 0, Teacher(network))


class TestPrepared:
    def test_the_bias_halves_the_images(self, teacher: Teacher, tmp_path: Path, said: list[str]) -> None:
        functions, constants = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, None)
        assert torch.equal(functions.weights, draw_weights(5, 3, 0.5, 1))
        colours = torch.tensor([[v, v * v, 1.0 - v] for v in IMAGES.values])
        assert ((colours @ functions.weights.T + functions.bias > 0).sum(0) == 3).all()
        assert constants.keys() == {"num", "width", "std", "seed", "rule", "bias", "sha256", "views"}
        assert constants["sha256"] == functions.sha256()
        assert said == ["hash functions: 5 drawn with deviation 0.5; bias: median of 6 plain images"]

    def test_they_are_kept_with_the_run_and_not_made_again(self, teacher: Teacher, tmp_path: Path) -> None:
        first, constants = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, None)
        assert calls(teacher) == 3
        again, same = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, None)
        assert calls(teacher) == 3
        assert torch.equal(first.weights, again.weights)
        assert torch.equal(constants.pop("bias"), same.pop("bias"))
        assert constants == same
        assert [path.name for path in tmp_path.iterdir()] == ["hash.ckpt"]

    @pytest.mark.parametrize("fault", [{"bias": None}, {"sha256": "0" * 64}, {"weights": torch.zeros(5, 3)}])
    def test_a_damaged_file_is_refused(self, teacher: Teacher, tmp_path: Path, fault: dict[str, Any]) -> None:
        prepare(tmp_path, WANTED, teacher, IMAGES, IDS, None)
        torch.save(torch.load(tmp_path / "hash.ckpt", weights_only=True) | fault, tmp_path / "hash.ckpt")
        with pytest.raises(InputError, match=r"hash\.ckpt is damaged: delete .* to start this run anew"):
            prepare(tmp_path, WANTED, teacher, IMAGES, IDS, None)

    def test_a_mean_bias(self, teacher: Teacher, tmp_path: Path) -> None:
        functions, _ = prepare(tmp_path, Wanted(5, 3, 0.5, 1, "mean", "plain"), teacher, IMAGES, IDS, None)
        colours = torch.tensor([[v, v * v, 1.0 - v] for v in IMAGES.values])
        torch.testing.assert_close(functions.bias, -(colours @ functions.weights.T).mean(0))

    def test_no_bias_needs_no_pass(self, teacher: Teacher, tmp_path: Path) -> None:
        functions, _ = prepare(tmp_path, Wanted(5, 3, 0.5, 1, "zero", "plain"), teacher, IMAGES, IDS, None)
        assert (calls(teacher), functions.bias.tolist()) == (0, [0.0] * 5)

    def test_features_that_are_not_finite_name_their_images(self, teacher: Teacher, tmp_path: Path) -> None:
        images: Any = Images([0.1, 0, 0.3, 0.7, 0, 0.2])
        with pytest.raises(InputError, match="are not finite for 2 of 6 images, such as image1, image4: "):
            prepare(tmp_path, WANTED, teacher, images, IDS, None)
        assert list(tmp_path.iterdir()) == []


Made = tuple[Tensor, Tensor, dict[str, Any], int]  # weights, bias, what checkpoints say, batches that the teacher saw


def _made(folder: Path, stage1: dict[str, Any] | None = None) -> Made:
    teacher = Teacher(Colours())
    functions, constants = prepare(folder, WANTED, teacher, IMAGES, IDS, stage1)
    return functions.weights, functions.bias, constants, calls(teacher)


def _not_passed_on(folder: Path) -> None:
    hashing.broadcast = lambda tensor: tensor
    _made(folder)


def _broken_images(folder: Path) -> None:
    images: Any = Images([0.1, 0.4, 0.3, 0, 0.5, 0.2])  # the one without a colour is rank 1's
    prepare(folder, WANTED, Teacher(Colours()), images, IDS, None)


class TestRanks:
    @pytest.mark.slow
    @pytest.mark.parametrize("ranks", [2, 4])
    def test_all_have_those_that_one_process_makes(self, tmp_path: Path, ranks: int) -> None:
        folders = [tmp_path / "alone", tmp_path / "together"]
        for folder in folders:
            folder.mkdir()
        weights, bias, constants, seen = _made(folders[0])
        found = in_ranks(ranks, _made, folders[1])
        for own_weights, own_bias, own_constants, _ in found:
            assert torch.equal(own_weights, weights)
            assert torch.equal(own_bias, bias)
            assert own_constants.keys() == constants.keys()
            assert own_constants["sha256"] == constants["sha256"]
        assert sum(own_seen for *_, own_seen in found) == seen == 3
        kept = [torch.load(folder / "hash.ckpt", weights_only=True) for folder in folders]
        assert all(torch.equal(kept[0][name], kept[1][name]) for name in ("weights", "bias"))

    @pytest.mark.slow
    def test_what_is_kept_or_taken_from_stage_1_reaches_all(self, tmp_path: Path) -> None:
        weights, bias, constants, _ = _made(tmp_path)
        (tmp_path / "stage2").mkdir()
        for arguments in ((tmp_path,), (tmp_path / "stage2", constants)):
            for own_weights, own_bias, _, seen in in_ranks(2, _made, *arguments):
                assert torch.equal(own_weights, weights)
                assert torch.equal(own_bias, bias)
                assert seen == 0

    def test_a_rank_with_others_ends_the_run(self, tmp_path: Path) -> None:
        ends = ends_of(2, _not_passed_on, tmp_path)
        assert {type(end) for end in ends} == {RunFailed}
        assert all("the hash functions: rank 1 has something else than rank 0" in str(end) for end in ends)

    def test_features_that_are_not_finite_end_all_ranks(self, tmp_path: Path) -> None:
        ends = ends_of(2, _broken_images, tmp_path)
        assert {type(end) for end in ends} == {InputError}
        assert all("not finite for 1 of 6 images, such as image3" in str(end) for end in ends)
        assert sorted(end.shown for end in ends) == [False, True]


class TestFromStage1:
    @pytest.fixture
    def stage1(self, teacher: Teacher, tmp_path: Path) -> dict[str, Any]:
        """What a stage 1 of another seed says of its functions."""
        (tmp_path / "stage1").mkdir()
        first = Wanted(5, 3, 0.5, 9, "median", "plain")
        constants = prepare(tmp_path / "stage1", first, teacher, IMAGES, IDS, None)[1]
        teacher.network.calls = 0  # type: ignore[assignment]
        return constants

    def test_they_are_taken_with_their_own_seed(
        self, teacher: Teacher, tmp_path: Path, said: list[str], stage1: dict[str, Any]
    ) -> None:
        functions, constants = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, stage1)
        assert calls(teacher) == 0
        assert torch.equal(functions.weights, draw_weights(5, 3, 0.5, 9))
        assert torch.equal(functions.bias, stage1["bias"])
        assert (functions.seed, constants["sha256"]) == (9, stage1["sha256"])
        assert said[-1] == "hash functions: the 5 of stage 1"

    @pytest.mark.parametrize(
        "other", [{"num": 6}, {"width": 2}, {"std": 0.25}, {"rule": "mean"}, {"views": "augmented"}, None]
    )
    def test_others_are_drawn_anew_and_it_is_said(
        self, teacher: Teacher, tmp_path: Path, said: list[str], stage1: dict[str, Any], other: dict[str, Any] | None
    ) -> None:
        stored = {} if other is None else stage1 | other
        functions, _ = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, stored)
        assert (calls(teacher), functions.seed) == (3, 1)
        assert said[-2].startswith("stage 1 had other hash functions")
        assert said[-2].endswith("drawn anew")

    def test_bits_that_come_back_otherwise_are_noticed(
        self, teacher: Teacher, tmp_path: Path, said: list[str], stage1: dict[str, Any]
    ) -> None:
        functions, _ = prepare(tmp_path, WANTED, teacher, IMAGES, IDS, stage1 | {"sha256": "0" * 64})
        assert functions.seed == 1
        assert "this version of torch draws other hash functions" in said[-2]

    def test_a_fresh_draw_is_kept_like_any(self, teacher: Teacher, tmp_path: Path, stage1: dict[str, Any]) -> None:
        prepare(tmp_path, WANTED, teacher, IMAGES, IDS, stage1)
        kept = torch.load(tmp_path / "hash.ckpt", weights_only=True)
        assert (kept["seed"], kept["weights"].shape) == (9, (5, 3))
        assert kept["sha256"] == stage1["sha256"]


@pytest.mark.usefixtures("hydra")
class TestImages:
    def pixels(self, views: str, epoch: int = 0) -> tuple[list[int], Tensor, Loader]:
        chosen = job("stage=2", "loss=lsh")
        settings, train = changed(chosen.settings, {"batch_size": 10, "eval_batch_size": 9}), split_of(chosen)
        data = pixels.TrainingData.open(train, train, settings, CPU)
        batches = list(bias_images(data, views=views, batch_size=7).epoch(epoch))
        assert [len(batch.index) for batch in batches] == [7, 7, 7, 3]
        index = [int(i) for batch in batches for i in batch.index]
        return index, torch.cat([batch.images for batch in batches]), data.test

    def test_every_training_image_once_in_order_as_it_is(self) -> None:
        index, images, plain = self.pixels("plain")
        assert index == list(range(24))
        assert torch.equal(images, torch.cat([batch.images for batch in plain.epoch(0)]))

    def test_augmented_views_on_request(self) -> None:
        index, images, plain = self.pixels("augmented")
        assert index == list(range(24))
        changed = (images != torch.cat([batch.images for batch in plain.epoch(0)])).flatten(1).any(1)
        assert changed.all()
        assert torch.equal(images, self.pixels("augmented")[1])
