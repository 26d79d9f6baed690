"""What eval takes from a checkpoint, what from the user, and what it calls the result."""

from pathlib import Path
from typing import Any

import pytest

from lshfm.commands import eval as evaluation
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.evaluation import Request
from lshfm.config.schema import Eval, Train
from lshfm.config.words import typed_keys
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import layout
from lshfm.runs.checkpoint import Checkpoint

PATH = Path("checkpoints/shapes_resnet8_GMP_bce_s0.ckpt")
TYPED = [f"checkpoint={PATH}"]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    with conf_folder():
        settings = compose(Train, ["model=resnet8", "model.pool=GMP", "dataset.size=24", "precision=bf16"]).settings
    return layout.pack(settings, settings.model, cifar_classifier("resnet8", 2, pool="GMP"), ["a", "b"])


def checkpoint(content: dict[str, Any] | None) -> Checkpoint:
    """Of ours, or of bare weights."""
    return Checkpoint(PATH, None, None) if content is None else Checkpoint.of(PATH, content)


def composed(content: dict[str, Any] | None, *overrides: str) -> Job[Eval]:
    words, found = [*TYPED, *overrides], checkpoint(content)
    with conf_folder():
        return Request(Path(), "", tuple(words), (), Eval).job(found.options, found.saved(without=typed_keys(words)))


def name(content: dict[str, Any] | None, *overrides: str) -> str:
    return evaluation._name(checkpoint(content), composed(content, *overrides).settings)


def test_everything_comes_from_the_checkpoint(content: dict[str, Any]) -> None:
    settings = composed(content).settings
    options = (settings.dataset.option, settings.model.option, settings.teacher.option)
    assert options == ("shapes", "resnet8", None)
    assert (settings.model.pool, settings.dataset.size) == ("GMP", 24)
    assert (settings.eval_batch_size, settings.precision, settings.channels_last) == (250, "bf16", True)
    assert settings.model.weights == "none"


def test_what_is_typed_wins(content: dict[str, Any]) -> None:
    settings = composed(content, "++dataset.size=48", "precision=fp32", "++dataset.eval_split=train").settings
    assert (settings.dataset.size, settings.dataset.eval_split) == (48, "train")
    assert settings.precision == "fp32"
    assert settings.model.pool == "GMP"


def test_another_data_set_keeps_the_networks_size_and_normalisation(content: dict[str, Any]) -> None:
    changed = content | {"mean": [0.1, 0.2, 0.3]}
    dataset = composed(changed, "dataset=voc2007", "dataset.root=DIR").settings.dataset
    assert (dataset.name, dataset.size, dataset.mean) == ("voc2007", 24, [0.1, 0.2, 0.3])
    assert (dataset.metric, dataset.eval_split) == ("voc2010", "test")


def test_where_stores_lie_is_no_checkpoints_to_say(content: dict[str, Any]) -> None:
    dataset = content["dataset"]
    elsewhere = content | {"dataset": dataset | {"values": dataset["values"] | {"cache_dir": "/elsewhere"}}}
    assert composed(elsewhere).settings.dataset.cache_dir == composed(content).settings.dataset.cache_dir
    assert composed(elsewhere, "++dataset.cache_dir=/mine").settings.dataset.cache_dir == "/mine"


def test_a_file_without_settings_gets_plain_ones() -> None:
    """The data set says how many of its images a batch has: 64 of a detector's would fill a GPU."""
    settings = composed(None, "dataset=shapes", "model=resnet20").settings
    assert (settings.eval_batch_size, settings.precision, settings.channels_last) == (250, "fp32", False)
    detector = ("dataset=voc0712", "dataset.root=DIR", "model=fasterrcnn_resnet50_fpn")
    assert composed(None, *detector).settings.eval_batch_size == 8
    assert composed(None, *detector, "eval_batch_size=3").settings.eval_batch_size == 3


def test_a_typing_error_is_found(content: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="sise"):
        composed(content, "++dataset.sise=48")


@pytest.mark.parametrize("key", ["model", "dataset"])
def test_a_checkpoint_does_not_choose_code(content: dict[str, Any], key: str) -> None:
    part = {"model": "network", "dataset": "dataset"}[key]
    evil = {**content[part], "values": {**content[part]["values"], "_target_": "os.system"}}
    group = getattr(composed(content | {part: evil}).settings, key)
    assert group.target.startswith("lshfm.")


@pytest.mark.parametrize(
    ("overrides", "added"),
    [
        ([], ""),
        (["gpus=[]", "workers=0", "output_dir=x"], ""),
        (["++dataset.size=24", "precision=bf16"], ""),  # as trained
        (["++dataset.size=48"], "_size-48"),
        (["precision=fp32", "++dataset.eval_split=train"], "_precision-fp32_eval_split-train"),
        (["++dataset.root=/elsewhere"], ""),
    ],
)
def test_the_name_is_the_checkpoints_with_what_differs(
    content: dict[str, Any], overrides: list[str], added: str
) -> None:
    if overrides == ["++dataset.root=/elsewhere"]:  # a key of data sets on disk
        content = content | {"dataset": {"option": "voc2007", "values": {"name": "voc2007", "root": "/x"}}}
    got = name(content, *overrides)
    assert set(got.removeprefix(PATH.stem).split("_")) == set(added.split("_"))
    assert got.startswith(PATH.stem)


def test_another_data_set_is_in_the_name(content: dict[str, Any]) -> None:
    assert "_dataset-voc2007" in name(content, "dataset=voc2007", "dataset.root=DIR")
    assert name(None, "dataset=shapes", "model=resnet20") == f"{PATH.stem}_dataset-shapes"


def test_a_users_name_is_checked(content: dict[str, Any]) -> None:
    assert name(content, "name=mine") == "mine"
    with pytest.raises(InputError, match="letters, digits"):
        name(content, "name='a/b'")


def test_a_network_that_the_user_names_keeps_its_own_settings(content: dict[str, Any]) -> None:
    settings = composed(content, "model=resnet20").settings
    assert (settings.model.own["arch"], settings.model.pool) == ("resnet20", "GAP")
    assert settings.dataset.size == 24
