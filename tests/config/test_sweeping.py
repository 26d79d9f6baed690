"""Words of a sweep: its own, its jobs' as a user types them, and the ranges of a search."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import register_teachers
from lshfm.config.ranges import Choice, Span
from lshfm.config.sweeping import as_typed, asked, for_hydra, is_side_by_side, is_sweep, overrides_of, without_sweep
from lshfm.errors import InputError


@pytest.fixture(autouse=True)
def _teachers() -> None:
    register_teachers()


def words_of(command: str, *words: str) -> list[str]:
    return [" ".join(arm.words) for arm in asked(command, words).arms]


def test_jobs_are_all_combinations_the_last_key_changing_first() -> None:
    assert words_of("train", "-m", "lr=0.1,0.2", "epochs=3", "seed=0,1", "sweep.jobs=2") == [
        "lr=0.1 epochs=3 seed=0",
        "lr=0.1 epochs=3 seed=1",
        "lr=0.2 epochs=3 seed=0",
        "lr=0.2 epochs=3 seed=1",
    ]


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("stage=1,2", ["stage=1", "stage=2"]),
        ("teacher=resnet20,resnet14", ["teacher=resnet20", "teacher=resnet14"]),
        ("teacher=a.ckpt,b.ckpt", ["teacher=a.ckpt", "teacher=b.ckpt"]),
        ("teacher=a b.ckpt,~/c=d.ckpt", ["teacher='a b.ckpt'", "teacher='~/c=d.ckpt'"]),
        ("stage1.lr=0.1,0.2", ["stage1.lr=0.1", "stage1.lr=0.2"]),
        ("student=resnet8,resnet14", ["student=resnet8", "student=resnet14"]),
        ("loss=[l2,kl],lshl2", ["loss=[l2,kl]", "loss=lshl2"]),
        ("loss.std=null,0.1", ["loss.std=null", "loss.std=0.1"]),
        ("seed=range(0,6,2)", ["seed=0", "seed=2", "seed=4"]),
        ("dataset.holdout=0.1", ["dataset.holdout=0.1"]),
    ],
)
def test_each_value_is_a_word_that_a_user_could_type(word: str, typed: Sequence[str]) -> None:
    """A job's words are rewritten to what the sweep's own word stands for."""
    found = words_of("mimic", "-m", word)
    assert found == list(typed)
    assert all(overrides_of("mimic", [each]) for each in found)


@pytest.mark.parametrize(
    "words", [["stage=1", "teacher=a.ckpt", "student=resnet8", "stage2.lr=0.1"], ["loss=[l2,kl]", "loss.kl.weight=2"]]
)
def test_overrides_turned_back_into_words_mean_the_same(words: list[str]) -> None:
    overrides = overrides_of("mimic", words)
    assert overrides_of("mimic", as_typed(overrides)) == overrides


def test_a_ready_sweep_gives_its_grid_unless_the_key_is_typed() -> None:
    assert words_of("train", "sweep=seeds") == ["seed=0", "seed=1", "seed=2"]
    assert words_of("train", "sweep=seeds", "seed=5,6") == ["seed=5", "seed=6"]


@pytest.mark.parametrize("path", sorted((CONF_DIR / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_sweep_is_read(path: Path) -> None:
    ranges = ["lr=interval(0.1,1)"] * (path.stem == "optuna")
    sweep = asked("mimic", [f"sweep={path.stem}", *ranges])
    assert len(sweep.arms) > 1 or sweep.settings.trials == 20


def test_a_users_own_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/mine.yaml").write_text(
        "defaults:\n  - /parts/sweep@_here_\n  - _self_\ngrid:\n  lr: 1,2\njobs: 3\n"
    )
    sweep = asked("train", ["sweep=mine", "--config-dir", str(tmp_path)])
    assert [arm.settings for arm in sweep.arms] == [{"lr": "1"}, {"lr": "2"}]
    assert sweep.settings.jobs == 3
    assert sweep.arms[0].words[:2] == ("--config-dir", str(tmp_path))


def test_gpus_are_the_sweeps_to_share_out() -> None:
    sweep = asked("train", ["-m", "gpus=[0,2]", "lr=1,2"])
    assert (sweep.gpus, sweep.words) == ([0, 2], ("lr=1,2",))
    assert asked("train", ["-m", "gpus=2"]).gpus == 2
    with pytest.raises(InputError, match="not swept"):
        asked("train", ["-m", "gpus=[0],[1]"])


def test_words_for_the_training_of_teachers() -> None:
    sweep = asked("mimic", ["-m", "seed=0,1", "sweep.teacher.epochs=3"])
    assert (sweep.settings.teacher, sweep.teacher) == ("train", ("epochs=3",))


SEARCH = ("sweep=optuna", "sweep.trials=5")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lr=interval(0.1,1)", Span(0.1, 1)),
        ("lr=tag(log, interval(0.001,0.1))", Span(0.001, 0.1, log=True)),
        ("dataset.size=int(interval(8,32))", Span(8, 32, whole=True)),
        ("dataset.size=range(8,32,8)", Span(8, 24, step=8, whole=True)),
        ("lr=range(0.1,0.4,0.1)", Span(0.1, 0.3, step=0.1)),
        ("optimizer=choice(sgd,adam)", Choice(("sgd", "adam"))),
        ("optimizer=sgd,adam", Choice(("sgd", "adam"))),
    ],
)
def test_ranges_are_in_hydras_grammar(word: str, expected: Span | Choice) -> None:
    (found,) = asked("train", [*SEARCH, word]).space.values()
    if isinstance(expected, Span):
        assert isinstance(found, Span)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert (found.step, found.log, found.whole) == (expected.step, expected.log, expected.whole)
    else:
        assert found == expected


def test_a_searchs_jobs_hold_out_a_part_unless_told_otherwise() -> None:
    fixed = asked("train", [*SEARCH, "epochs=2", "lr=interval(0.1,1)"]).with_words(["lr=0.5"])
    assert fixed == ("epochs=2", "dataset.holdout=0.1", "select=best", "lr=0.5")
    assert "select=last" in asked("train", [*SEARCH, "select=last", "lr=interval(0.1,1)"]).with_words([])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "sweep.job=2"], "sweep.job: no such key"),
        (["-m", "sweep.jobs=0"], "sweep.jobs=0: must be at least 1"),
        (["-m", "sweep.jobs=many"], "sweep.jobs=many: must be a whole number"),
        (["-m", "sweep.grid.lr=1"], "sweep.grid.lr: no such key"),
        (["-m", "sweep.grid=1"], "of a file in DIR/sweep/"),
        (["sweep=none_such"], "sweep=none_such: no such sweep"),
        (["-m", "lr=interval(0.1,1)"], "add sweep=optuna"),
        ([*SEARCH, "lr=0.1"], "nothing to choose"),
        ([*SEARCH, "lr=interval(1,0.1)"], "no range to choose from"),
        ([*SEARCH, "lr=tag(log, interval(0,1))"], "no range to choose from"),
        (["-m", "sweep.teacher=yes"], "sweep.teacher="),
    ],
)
def test_what_is_wrong_with_a_sweeps_words(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        asked("train", words)
    assert message in str(caught.value)


def test_which_words_make_a_sweep() -> None:
    assert is_sweep(["-m"])
    assert is_sweep(["sweep=seeds"])
    assert not is_sweep(["lr=0.1"])
    assert without_sweep(["sweep=seeds", "+sweep.jobs=2", "lr=1"]) == ["lr=1"]
    assert is_side_by_side(["-m", "lr=1,2"])
    assert not is_side_by_side(["-m", "hydra/launcher=slurm"])


def test_a_launcher_gets_the_grid_written_out() -> None:
    words = ["sweep=seeds", "sweep.name=a", "hydra/launcher=slurm"]
    assert for_hydra(words) == ["-m", "hydra/launcher=slurm", "seed=0,1,2"]
    with pytest.raises(InputError, match="no launcher"):
        for_hydra(["sweep=optuna", "hydra/launcher=slurm"])
