"""The multi-label task: its lines, losses, evaluator, chance level and files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lshfm.config.groups import LabelLoss
from lshfm.config.schema import Train
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.losses.classification import ASL, BCE, Summed
from lshfm.metrics.average_precision import DEFINITIONS
from lshfm.tasks.multilabel import MultiLabel
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import open_task
from tests.jobs import TEST, TRAIN, changed, opened, splits

LABELS = np.array([[1, 0], [1, 1], [-1, -1], [-1, 0]], np.int8)


class Pictures:
    """So many of them, which nobody looks at."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return self.num


def split(*ids: str, classes: tuple[str, ...] = ("a", "b")) -> Split:
    images: Any = Pictures(len(ids))
    return Split("val", classes, ids, LABELS[: len(ids)], images)


def test_a_data_set_names_it(settings: Train) -> None:
    assert settings.dataset.task == "multilabel"
    assert type(open_task(settings.dataset)) is MultiLabel


def test_a_metric_that_it_does_not_have(settings: Train) -> None:
    others = ", ".join(DEFINITIONS)
    with pytest.raises(InputError, match=f"^dataset.metric=voc2009: must be one of {others}.*did you mean 'voc20"):
        open_task(changed(settings.dataset, {"metric": "voc2009"}))


def test_a_task_that_is_not_there(settings: Train) -> None:
    with pytest.raises(InputError, match=r"^dataset\.task=multilabl: no such task \(did you mean 'multilabel'\?\)"):
        open_task(changed(settings.dataset, {"task": "multilabl"}))


def test_a_split_in_words() -> None:
    assert MultiLabel().describe(split(*"wxyz"), 3, "test on") == (
        "test on val: 3 of 4 images, 2 classes, 0.75 positive labels an image, 2 difficult ones"
    )


def test_the_evaluator_measures_the_whole_split(settings: Train) -> None:
    data, task = opened(settings), MultiLabel()
    test = splits(settings)[1]
    network, _ = task.network(settings.model, test.classes, 16)
    evaluation, arrays = task.evaluator(data.test, test, "voc2007", "fp32")(network)
    assert (evaluation.name, evaluation.score) == ("voc2007 mAP", evaluation.report["mAPs"]["voc2007"])
    assert evaluation.report["images"] == TEST
    assert arrays.keys() == {"ids", "logits", "targets"}
    assert arrays["ids"].tolist() == list(test.ids)
    assert np.array_equal(arrays["targets"], test.labels)
    with torch.no_grad():
        expected = torch.cat([network(batch.images)[1] for batch in data.test.epoch(0)])
    assert np.array_equal(arrays["logits"], expected.numpy())


def test_features_are_kept_where_asked_for(settings: Train) -> None:
    data, task = opened(settings), MultiLabel()
    test = splits(settings)[1]
    network, _ = task.network(settings.model, test.classes, 16)
    _, arrays = task.evaluator(data.test, test, "voc2007", "fp32", features=True)(network)
    with torch.no_grad():
        expected = torch.cat([network(batch.images)[0] for batch in data.test.epoch(0)])
    assert np.array_equal(arrays["features"], expected.numpy())


@pytest.mark.parametrize("parts", [1, 4])
def test_a_loss_that_sums_keeps_its_sum_over_the_parts(parts: int) -> None:
    logits, labels = torch.tensor([[0.5, -1.0], [2.0, 0.25]]), torch.tensor([[1, -1], [0, 1]], dtype=torch.int8)
    folder = "lshfm.losses.classification"
    plain = LabelLoss("bce", {"_target_": f"{folder}.BCE", "kind": "label"})
    name, mean = MultiLabel().label_loss(plain, parts, at="loss")
    assert (name, type(mean)) == ("bce", BCE)
    summed = {"_target_": f"{folder}.ASL", "kind": "label", "reduction": "sum"}
    name, total = MultiLabel().label_loss(LabelLoss("asl", summed, name="its"), parts, at="loss")
    assert (name, type(total)) == ("its", ASL if parts == 1 else Summed)
    assert torch.equal(total(logits, labels), parts * ASL(reduction="sum")(logits, labels))


def test_chance_is_the_share_of_positives_over_the_classes_that_have_any() -> None:
    targets = np.array([[1, 0, -1], [-1, 1, -1], [-1, 1, -1], [-1, -1, -1]], np.int8)
    assert MultiLabel().chance({"targets": targets}) == pytest.approx(100 * (1 / 4 + 2 / 3) / 2)
    assert MultiLabel().chance({"targets": -np.ones((2, 3), np.int8)}) == 0


class TestDevkit:
    @pytest.mark.parametrize(("alone", "competition"), [(True, "comp1"), (False, "comp2")])
    def test_only_a_network_that_saw_voc_alone_is_comp1(
        self, settings: Train, tmp_path: Path, alone: bool, competition: str
    ) -> None:
        of = split("w", "x", classes=("cat", "big dog"))
        write = MultiLabel().file_writer(changed(settings.dataset, {"devkit": True}), of)
        assert write
        logits = np.array([[1.5, -1.0], [0.25, 2.0]], np.float32)
        write(tmp_path, {"ids": np.array(of.ids), "logits": logits}, alone)
        files = {path.name: path.read_text().split() for path in (tmp_path / "devkit").iterdir()}
        assert {name: text[::2] for name, text in files.items()} == {
            f"{competition}_cls_val_cat.txt": ["w", "x"],
            f"{competition}_cls_val_big-dog.txt": ["w", "x"],
        }
        values = [[float(number) for number in text[1::2]] for _, text in sorted(files.items())]
        assert values == [[-1.0, 2.0], [1.5, 0.25]]

    def test_only_where_it_is_asked_for(self, settings: Train) -> None:
        assert MultiLabel().file_writer(changed(settings.dataset, {"devkit": False}), split("a b")) is None

    @pytest.mark.parametrize("id_", ["a b", "a\nb", "", "\u2003"])
    def test_ids_that_a_devkit_file_cannot_hold(self, settings: Train, id_: str) -> None:
        with pytest.raises(InputError, match="no id with blanks has a place") as refused:
            MultiLabel().file_writer(changed(settings.dataset, {"devkit": True}), split("000001", id_))
        assert "\n" not in str(refused.value)


def test_pools_are_the_images_of_each_class_and_those_of_none() -> None:
    """A difficult label counts, as in training; a class without images is no pool."""
    found = [pool.tolist() for pool in MultiLabel().pools(LABELS)]
    assert found == [[0, 1], [0, 1, 3], [2]]
    assert [pool.tolist() for pool in MultiLabel().pools(np.array([[1, -1], [0, -1]], np.int8))] == [[0, 1]]


def test_balanced_sampling_draws_from_what_is_not_held_out(settings: Train) -> None:
    data = opened_by_the_task(changed(settings, {"balanced": True, "dataset.holdout": 0.25}))
    batches, held = data.batches, set(data.validation.indices.tolist())
    orders = [batches.order(epoch) for epoch in range(40)]
    assert all(len(order) == len(batches.indices) == TRAIN - 3 for order in orders)
    assert not held & set(np.concatenate(orders).tolist())
    assert batches.pools is not None
    counts = np.bincount(np.concatenate(orders), minlength=TRAIN)[batches.indices]
    chances = sum(np.isin(range(TRAIN - 3), pool) / len(pool) for pool in batches.pools) / len(batches.pools)
    expected = counts.sum() * np.asarray(chances)
    assert ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum() < 32  # 8 degrees of freedom
    assert opened_by_the_task(settings).batches.pools is None


def test_weights_of_the_label_loss_are_of_the_images_to_train_on(settings: Train) -> None:
    data = opened_by_the_task(changed(settings, {"dataset.holdout": 0.25}))
    loss = changed(settings, {"loss.pos_weight": "auto"}).loss
    _, ours = MultiLabel().label_loss(loss, 1, at="loss", labels=data.labels)
    positives = (data.labels >= 0).sum(0)
    expected = [(TRAIN - 3 - n) / n if n else 1.0 for n in positives.tolist()]
    assert isinstance(ours, BCE)
    assert ours.weights is not None
    assert ours.weights.tolist() == pytest.approx(expected)


def opened_by_the_task(settings: Train) -> TrainingData:
    train, test = splits(settings)
    return MultiLabel().training_data(train, test, settings, torch.device("cpu"))


def test_an_example_s_labels_are_those_that_pass_else_the_likeliest() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [-3.0, -1.0, -2.0]], np.float32)
    arrays = {"logits": logits, "targets": np.array([[1, 1, 0], [1, -1, -1]], np.int8)}
    classes = ("cat", "dog", "bird")
    true, predicted = MultiLabel().labels_of_image(arrays, 0, classes)
    assert (true, [(name, right) for name, _, right in predicted]) == (["cat", "dog"], [("cat", True), ("bird", True)])
    true, predicted = MultiLabel().labels_of_image(arrays, 1, classes)
    assert (true, [(name, round(p, 3), right) for name, p, right in predicted]) == (["cat"], [("dog", 0.269, False)])
