"""What eval takes from a checkpoint, what from the user, and what it calls the result."""

from pathlib import Path
from typing import Any

import pytest

from lshfm.commands import eval as evaluation
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import checkpoint

PATH = Path("checkpoints/shapes_resnet8_GMP_bce_s0.ckpt")
TYPED = [f"checkpoint={PATH}"]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    with conf_folder():
        job = compose("train", ["model=resnet8", "model.pool=GMP", "dataset.size=24", "precision=bf16"])
    return checkpoint.pack(job, "model", cifar_classifier("resnet8", 2, pool="GMP"), ["a", "b"])


def composed(content: dict[str, Any] | None, *overrides: str) -> Job:
    with conf_folder():
        return evaluation._compose([*TYPED, *overrides], content)


def name(content: dict[str, Any] | None, *overrides: str) -> str:
    return evaluation._name(PATH, composed(content, *overrides), content)


def test_everything_comes_from_the_checkpoint(content: dict[str, Any]) -> None:
    job = composed(content)
    assert job.choices == {"dataset": "shapes", "model": "resnet8", "teacher": None}
    assert (job.values["model"]["pool"], job.values["dataset"]["size"]) == ("GMP", 24)
    assert [job.values[key] for key in ("eval_batch_size", "precision", "channels_last")] == [250, "bf16", True]
    assert job.values["model"]["weights"] == "none"


def test_what_is_typed_wins(content: dict[str, Any]) -> None:
    job = composed(content, "++dataset.size=48", "precision=fp32", "++dataset.eval_split=train")
    assert (job.values["dataset"]["size"], job.values["dataset"]["eval_split"]) == (48, "train")
    assert job.values["precision"] == "fp32"
    assert job.values["model"]["pool"] == "GMP"


def test_another_data_set_keeps_the_networks_size_and_normalisation(content: dict[str, Any]) -> None:
    changed = content | {"mean": [0.1, 0.2, 0.3]}
    dataset = composed(changed, "dataset=voc2007", "dataset.root=DIR").values["dataset"]
    assert (dataset["name"], dataset["size"], dataset["mean"]) == ("voc2007", 24, [0.1, 0.2, 0.3])
    assert (dataset["metric"], dataset["eval_split"]) == ("voc2010", "test")


def test_where_stores_lie_is_no_checkpoints_to_say(content: dict[str, Any]) -> None:
    dataset = content["dataset"]
    elsewhere = content | {"dataset": dataset | {"values": dataset["values"] | {"cache_dir": "/elsewhere"}}}
    assert composed(elsewhere).values["dataset"]["cache_dir"] == composed(content).values["dataset"]["cache_dir"]
    assert composed(elsewhere, "++dataset.cache_dir=/mine").values["dataset"]["cache_dir"] == "/mine"


@pytest.mark.parametrize("id_", ["a b", "a\nb", "", "\u2003"])
def test_ids_that_a_devkit_file_cannot_hold(id_: str) -> None:
    with pytest.raises(InputError, match="no id with blanks has a place") as refused:
        evaluation._require_words(["000001", id_])
    assert "\n" not in str(refused.value)


def test_a_file_without_settings_gets_plain_ones() -> None:
    job = composed(None, "dataset=shapes", "model=resnet20")
    assert [job.values[key] for key in ("eval_batch_size", "precision", "channels_last")] == [64, "fp32", False]


def test_a_typing_error_is_found(content: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="sise"):
        composed(content, "++dataset.sise=48")


@pytest.mark.parametrize("key", ["model", "dataset"])
def test_a_checkpoint_does_not_choose_code(content: dict[str, Any], key: str) -> None:
    part = {"model": "network", "dataset": "dataset"}[key]
    evil = {**content[part], "values": {**content[part]["values"], "_target_": "os.system"}}
    assert composed(content | {part: evil}).values[key]["_target_"].startswith("lshfm.")


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


def test_only_a_network_that_saw_voc_alone_is_comp1(content: dict[str, Any]) -> None:
    pretrained = {**content["network"], "values": {"weights": "imagenet"}}
    assert evaluation._competition(content) == "comp1"
    assert evaluation._competition(content | {"network": pretrained}) == "comp2"
    assert evaluation._competition(None) == "comp2"


def test_a_network_that_the_user_names_keeps_its_own_settings(content: dict[str, Any]) -> None:
    job = composed(content, "model=resnet20")
    assert (job.values["model"]["arch"], job.values["model"]["pool"]) == ("resnet20", "GAP")
    assert job.values["dataset"]["size"] == 24
