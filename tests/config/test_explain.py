"""Hydra's complaints in our words, and what commands and groups there are."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import ListConfig
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR
from lshfm.config import launch as launching
from lshfm.config.compose import compose, conf_folder
from lshfm.config.help import EXAMPLES, command_help
from lshfm.config.launch import (
    explain,
    groups,
    launch,
    not_launched,
    num_gpus,
    num_tasks,
    options,
    parses,
    recipe_command,
)
from lshfm.config.schema import COMMANDS
from lshfm.errors import InputError


def explained(monkeypatch: pytest.MonkeyPatch, command: str, *overrides: str) -> str:
    """What a user reads who gives these overrides."""
    monkeypatch.setattr(sys, "argv", ["lshfm", *overrides])
    with conf_folder(), pytest.raises((HydraException, OmegaConfBaseException, ValueError)) as caught:
        compose(command, overrides)
    return str(explain(command, caught.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=voc207"], "dataset=voc207: no such dataset (did you mean 'voc2007'?). There are: coco, coco2014,"),
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
        (["lr"], "cannot read 'lr': an argument is GROUP=OPTION or KEY=VALUE"),
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


def test_a_launcher_is_named_or_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "hydra/launcher=slrm: no such hydra/launcher (did you mean 'slurm'?). There are: slurm"
    assert explained(monkeypatch, "train", "hydra/launcher=slrm") == message
    with conf_folder():  # Hydra has found its plugins
        monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml", raising=False)
    for name in ("slurm", "submitit_slurm"):
        message = explained(monkeypatch, "train", f"hydra/launcher={name}")
        assert message == "SLURM's launcher is an extra: pip install 'lshfm[slurm]'"


@pytest.mark.parametrize(
    ("gpus", "ranks", "found"),
    [(None, None, (1, 1)), (4, None, (4, 4)), (ListConfig([0, 2]), None, (2, 2)), (ListConfig([]), 3, (None, 3)),
     ([], None, (None, 1))],
)  # fmt: skip
def test_a_task_a_gpu(gpus: object, ranks: int | None, found: tuple[int | None, int]) -> None:
    assert (num_gpus(gpus), num_tasks(gpus, ranks)) == found


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line with two jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lshfm train", "-m", "seed=0,1"])
    GlobalHydra.instance().clear()


@pytest.mark.usefixtures("sweep")
def test_all_jobs_of_a_sweep_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[list[str]] = []

    def task(overrides: list[str]) -> None:
        jobs.append(overrides)
        raise InputError(f"of job {len(jobs)}")

    with pytest.raises(InputError, match="of job 1"):
        launch("train", task, lambda _: pytest.fail("this is the same process"))
    assert jobs == [["seed=0"], ["seed=1"]]


@pytest.mark.usefixtures("sweep")
def test_a_job_in_another_process_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, raised = iter(range(3)), []

    def task(overrides: list[str]) -> None:
        raise HydraException(f"{overrides}")

    def elsewhere(work: Callable[[], None]) -> None:
        with pytest.raises(InputError) as caught:
            work()
        raised.append(str(caught.value))

    monkeypatch.setattr(launching, "_process", lambda: next(numbers))
    launch("train", task, elsewhere)
    assert raised == ["['seed=0']", "['seed=1']"]


def test_another_process_is_told_by_more_than_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    here = launching._process()
    assert here == launching._process()
    monkeypatch.setattr(launching, "_OWN", uuid4())
    assert here != launching._process()


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


def test_groups_and_options() -> None:
    assert groups("train") == ["model", "loss", "dataset", "experiment"]
    assert groups("mimic") == ["teacher", "student", "loss", "label_loss", "stage", "dataset", "experiment"]
    assert groups("eval") == ["model", "teacher", "dataset"]
    assert options("student") == options("model")
    assert options("label_loss") == options("loss")
    for group in groups("train"):
        assert options(group) == sorted(path.stem for path in (CONF_DIR / group).iterdir())


def test_recipes_name_their_command() -> None:
    for name in options("experiment"):
        assert recipe_command(name) == {"baseline": "train", "mimic": "mimic"}[name.rpartition("_")[2]]
    assert recipe_command("none_such") is None


@pytest.mark.parametrize(
    ("word", "does"), [("lr=0.1", True), ("a=[1,2]", True), ("lr", False), ("root=~/x", False), ("a=b=(c", False)]
)
def test_what_the_grammar_takes(word: str, does: bool) -> None:
    assert parses(word) is does


GIVEN = {
    "train": ["dataset=shapes", "model=resnet20"],
    "mimic": [],
    "eval": ["dataset=shapes", "model=resnet20", "teacher=resnet20"],
    "check": [],
}
OF_GROUPS = {
    "train": {"model.pool", "model.weights"},
    "mimic": {"student.projection", "student.init", "student.pool", "teacher.pool", "loss.beta", "loss.hash_num"},
    "eval": {"model.pool", "model.weights", "teacher.pool"},
    "check": set(),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_group_and_key_with_its_value(command: str) -> None:
    page = command_help(command, GIVEN[command])
    keys = [line.split()[0] for line in page.splitlines() if line.startswith("  ") and "[" in line]
    with conf_folder():
        values = compose(command, [*GIVEN[command], *(["checkpoint=x"] * (command == "eval"))]).values
    plain = {name for name, value in values.items() if not isinstance(value, dict)}
    assert plain - {"recipe"} <= set(keys)
    assert {"dataset.size", "dataset.holdout", "dataset.metric", "dataset.cache", *OF_GROUPS[command]} <= set(keys)
    assert len(keys) == len(set(keys))
    assert all(f"\n  {group}: " in page for group in groups(command))
    assert all(f"  {example}" in page for example in EXAMPLES[command])
    assert "???" not in page


def listed(page: str, group: str) -> list[str]:
    """The options that a page of help lists for a group."""
    text = re.split(r"\n(?!      )", page.partition(f"\n  {group}: ")[2])[0]
    return re.sub(r" \(.*", "", " ".join(text.split())).split(", ")


def test_help_lists_only_what_the_command_takes() -> None:
    train, mimic = command_help("train", []), command_help("mimic", [])
    assert listed(train, "loss") == listed(mimic, "label_loss") == ["asl", "bce"]
    assert listed(mimic, "loss") == ["kl", "kl_sigmoid", "l1", "l2", "lsh", "lshl2"]
    assert listed(mimic, "stage") == ["1", "2", "both"]
    assert listed(mimic, "teacher") == listed(mimic, "student") == options("model")
    assert listed(train, "experiment") == [name for name in options("experiment") if name.endswith("_baseline")]
    assert listed(mimic, "experiment") == [name for name in options("experiment") if name.endswith("_mimic")]
    words = " ".join(mimic.split())
    assert "(add _GMP or _GWP for the pooling; or a checkpoint's PATH or name)" in words
    assert "(several as [l2,kl_sigmoid])" in words
    assert "(several" not in train


def test_help_of_mimic_shows_what_its_words_lead_to() -> None:
    page = command_help("mimic", ["experiment=voc2007_resnet18_mimic", "stage='2'", "++stage1.lr=0.3"])
    shown = {line.split()[0]: line.rpartition("  [")[2].rstrip("]") for line in page.splitlines() if "  [" in line}
    found = [shown[key] for key in ("loss.beta", "student.projection", "student.arch", "teacher.arch", "dataset.root")]
    assert found == ["0.5", "true", "resnet18", "resnet34", "to be given"]
    assert (shown["stage1.KEY"], shown["stage2.KEY"]) == ("lr=0.3", "not set")
    assert "loss.temperature" not in shown  # lshl2 has none
    assert "published" not in shown


def test_help_keeps_an_option_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("defaults: [l2, _self_]\nname: mine\n")
    (tmp_path / "loss/label.yaml").write_text("_target_: a.B\nname: label\n")
    with conf_folder([tmp_path]):
        train, mimic = command_help("train", []), command_help("mimic", [])
    assert (set(listed(train, "loss")), set(listed(mimic, "label_loss"))) == ({"asl", "bce", "label", "mine"},) * 2
    assert "mine" in listed(mimic, "loss")
    assert "label" not in listed(mimic, "loss")
