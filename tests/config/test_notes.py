"""What the log says of recipes, used and unused."""

import re

import pytest

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import options
from lshfm.config.compose import conf_folder
from lshfm.config.orders import order
from lshfm.config.recipes import published_pairs, recipe_command
from lshfm.config.words import rewrite

VOC = ("dataset=voc2007", f"dataset.root={CONF_DIR}", "teacher=resnet34", "student=resnet18")
NAME = "experiment=voc2007_resnet18_mimic"


def notes(command: str, *words: str) -> list[str]:
    with conf_folder():
        return list(order(command, rewrite(command, words), files=False)[1])


def test_a_recipe_of_the_pair_is_named_with_what_it_would_set() -> None:
    assert notes("mimic", *VOC, "loss.std=2") == [
        f"{NAME} is published for this pair; it would set bn_group_size=4 student.projection=True "
        "student.weights=imagenet loss.beta=0.5 loss.hash_num=2048. Values stay as they are"
    ]
    own = ("stage=1", "bn_group_size=4", "student.weights=imagenet", "loss.hash_num=2048", "student.projection=true")
    assert notes("mimic", *VOC, *own) == [f"{NAME} is published for this pair; it would set nothing else"]


@pytest.mark.slow
def test_other_pairs_have_none() -> None:
    assert notes("mimic", *VOC, "student.pool=GMP") == []
    assert notes("mimic", *VOC[:3], "student=resnet34") == []
    assert notes("mimic") == []
    assert published_pairs("coco2014", "resnet101_GMP", "resnet101", "GAP") == ["coco_resnet101_mimic"]


def test_a_recipes_groups_are_told() -> None:
    said = "bn_group_size=4: BatchNorm's statistics are over 4 images, as published on 4 GPUs"
    assert notes("mimic", NAME, VOC[1]) == [said]
    assert notes("train", "experiment=voc2007_resnet18_baseline", VOC[1]) == [said]
    assert notes("train", "experiment=voc2007_resnet18_baseline", VOC[1], "bn_group_size=null") == []
    assert notes("train", "bn_group_size=4") == []


CLASSIFICATION = [name for name in options("experiment") if not name.startswith("voc07")]


@pytest.mark.parametrize(
    "name", [n if n.startswith("voc") else pytest.param(n, marks=pytest.mark.slow) for n in CLASSIFICATION]
)
def test_a_recipes_groups_are_those_of_its_hardware(name: str) -> None:
    text = (CONF_DIR / "experiment" / f"{name}.yaml").read_text()
    saw = re.search(r"Published on 4 GPUs in fp32, so BatchNorm saw (\d) images at a time", text)
    if not saw:  # published on one GPU
        assert "4 GPUs" not in text
        return
    with conf_folder():
        jobs, _ = order(str(recipe_command(name)), [f"experiment={name}", VOC[1]], files=False)
    job = jobs[-1] if isinstance(jobs, list) else jobs
    assert job.settings.bn_group_size == int(saw[1]) == job.settings.batch_size // 4
