"""Hydra's complaints, and a launcher's, in our words."""

import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lshfm.config.compose import compose, conf_folder
from lshfm.config.explain import explain, not_launched
from lshfm.config.schema import COMMANDS
from lshfm.config.words import rewrite


def explained(monkeypatch: pytest.MonkeyPatch, command: str, *overrides: str) -> str:
    """What a user reads who gives these overrides."""
    words = rewrite(command, overrides)
    monkeypatch.setattr(sys, "argv", ["lshfm", *words])
    with conf_folder(), pytest.raises((HydraException, OmegaConfBaseException, ValueError)) as caught:
        compose(COMMANDS[command], words)
    return str(explain(command, caught.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["dataset=voc207"],
            "dataset=voc207: no such dataset (did you mean 'voc2007'?). There are: boxes, cifar10, cifar100,",
        ),
        (["model=resnet35"], "model=resnet35: no such model (did you mean 'resnet"),
        (["loss=bec"], "loss=bec: no such loss (did you mean 'bce'?). There are: asl, bce"),
        (["experiment=voc2007_resnet34"], "(did you mean 'voc2007_resnet34_baseline'?)"),
        (["batchsize=3"], "batchsize: no such key or group (did you mean 'batch_size'?). See lshfm train --help"),
        (["modle=resnet34"], "modle: no such key or group (did you mean 'model'?)"),
        (["dataset.sise=3"], "dataset.sise: no such key or group (did you mean 'dataset.size'?)"),
        (["schedule.warm=1"], "schedule.warm: no such key or group (did you mean 'schedule.warmup'?)"),
        (["loss=asl", "loss.gama_neg=1"], "loss.gama_neg: no such key or group (did you mean 'loss.gamma_neg'?)"),
        (["loss.gamma_neg=1"], "loss.gamma_neg: no such key or group"),  # bce has none
        (["qqqqqq=1"], "qqqqqq: no such key or group. See lshfm train --help"),
        (["schedule=[]"], "schedule: no such key or group (did you mean"),
        (["lr"], "cannot read 'lr': an argument is GROUP=OPTION or KEY=VALUE: lr=VALUE"),
        (["model.pretrained=true"], "model.pretrained: no such key or group; it is model.weights=imagenet here."),
        (["lr=${nothing}"], "Interpolation key 'nothing' not found"),
        (["hydra.launcher.partion=gpu"], "hydra.launcher.partion: no such key of Hydra's. See lshfm train --cfg hydra"),
        (["dataset=null"], "model=, loss=, dataset=, experiment= each take an option's name"),
        (["model=34"], "model=, loss=, dataset=, experiment= each take an option's name"),
    ],
)
def test_explanations(monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str) -> None:
    text = explained(monkeypatch, "train", *overrides)
    assert message in text
    assert "provider=" not in text
    assert "object_type" not in text


def test_a_folder_in_place_of_a_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever types the folder is told the two keys that take it."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    advice = "Images of your own are dataset=manifest dataset.root=mine (with a table)"
    assert f"dataset=mine: no such dataset. {advice}" in explained(monkeypatch, "train", "dataset=mine")
    assert f"cannot read 'mine': an argument is GROUP=OPTION or KEY=VALUE. {advice}" in explained(
        monkeypatch, "check", "mine"
    )


@pytest.mark.parametrize("network", ["teacher", "checkpoint=teacher"])
def test_a_second_word_alone_is_refused_and_not_the_network(monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    refused = "cannot read 'photos': an argument is GROUP=OPTION or KEY=VALUE; only the network stands alone"
    assert explained(monkeypatch, "predict", network, "photos") == f"{refused}, pictures are input=photos"
    assert explained(monkeypatch, "eval", network, "photos") == f"{refused}, as: lshfm eval NAME"
    assert explained(monkeypatch, "predict", network, "top", "3").endswith("KEY=VALUE: top=VALUE")


def test_of_many_options_the_nearest_is_named_and_where_to_find_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "student=resnet999: no such student (did you mean 'resnet8'?). lshfm mimic --help lists all"
    assert explained(monkeypatch, "mimic", "student=resnet999") == message
    assert "There are: ShuffleV1, ShuffleV2" in explained(monkeypatch, "mimic", "student=qqq")


def test_a_launcher_is_named_or_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "hydra/launcher=slrm: no such hydra/launcher (did you mean 'slurm'?). There are: slurm"
    assert explained(monkeypatch, "train", "hydra/launcher=slrm") == message
    with conf_folder():  # Hydra has found its plugins
        monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml", raising=False)
    for name in ("slurm", "submitit_slurm"):
        message = explained(monkeypatch, "train", f"hydra/launcher={name}")
        assert message == "SLURM's launcher is an extra: pip install 'lshfm[slurm]'"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Job 12_3 (task: 0) with path {}/12_3_0_result.pkl\nhas not produced any output (state: FAILED)\n...",
         "job 12_3 ended as FAILED: no such file: x. See {}/12_3_*_log.out; other jobs of the sweep go on."),
        ("Job 12_4 (task: 1) with path {}/12_4_1_result.pkl\nhas not produced any output (state: CANCELLED by 10)\n",
         "job 12_4 ended as CANCELLED by 10. See {}/12_4_*_log.out; other jobs of the sweep go on."),
        ("Job (task=0) failed during processing with trace:\n-----\nTraceback (most recent call last):\nKeyError: 3\n"
         "-----\nYou can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at paths:\n"
         "  - {}/12_5_0_log.err\n  - {}/12_5_0_log.out",
         "job 12_5 ended. See {}/12_5_*_log.out; other jobs of the sweep go on."),
        ("sbatch: error: invalid partition", "no job was submitted: sbatch: error: invalid partition"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_failed_job(tmp_path: Path, said: str, message: str) -> None:
    for job, lines in {
        "12_3_0": "a\n",
        "12_3_1": "b\nlshfm: error: no such file: x\n",
        "12_30_0": "lshfm: error: y\n",
    }.items():
        (tmp_path / f"{job}_log.out").write_text(lines)
    assert str(not_launched(RuntimeError(said.replace("{}", str(tmp_path))))) == message.replace("{}", str(tmp_path))


def test_commands_have_their_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "checkpont: no such key or group (did you mean 'checkpoint'?)" in explained(
        monkeypatch, "eval", "checkpont=x"
    )
    assert explained(monkeypatch, "eval", "epochs=3").startswith("epochs: no such key or group.")
