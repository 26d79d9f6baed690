"""A search with Optuna: what it asks for, what it is told, how it ends trials and goes on."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lshfm.config.ranges import Choice, Span
from lshfm.config.sweeping import Sweep, asked
from lshfm.engine.lines import EpochLine
from lshfm.errors import InputError
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps import search as searching
from lshfm.sweeps.search import Search, extremes

pytest.importorskip("optuna")

SPACE = {
    "lr": Span(0.001, 0.1, log=True), "size": Span(8, 32, step=8, whole=True), "drop": Span(0, 0.5, step=0.25),
    "optimizer": Choice(("sgd", "adam")),
}  # fmt: skip


def sweep(*words: str) -> Sweep:
    return asked("train", ["sweep=optuna", "lr=interval(0,1)", *words]).settings


def make(number: int, settings: Mapping[str, str]) -> SweepJob:
    return SweepJob(number=number, command=(), settings=dict(settings), runs=(" ".join(settings.values()),))


def begin(folder: Path, *jobs: SweepJob, space: Mapping[str, Span | Choice] = SPACE, trials: int = 4) -> Search:
    record = SweepRecord(name="a", command="train", command_line=(), jobs=jobs, trials=trials)
    return Search(record, folder, sweep(f"sweep.trials={trials}"), space, make)


def line(epoch: int, score: float) -> EpochLine:
    return EpochLine(epoch, "mAP", score)


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search._study.get_trials()]


@pytest.fixture(autouse=True)
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """What finished jobs came to, by number."""
    known: dict[int, float] = {}

    def number_of(job: SweepJob, _: Path) -> object:
        if job.state is not JobState.FINISHED:
            return None
        return searching_number(known.get(job.number, 1.0))

    monkeypatch.setattr(searching, "number_of", number_of)
    return known


def searching_number(held_out: float) -> object:
    from lshfm.sweeps.summary import Number

    return Number("mAP", 99.0, held_out)


def test_values_are_within_their_ranges_and_short_enough_to_type(tmp_path: Path) -> None:
    search = begin(tmp_path, trials=12)
    for number in range(1, 13):
        job = search.ask(number)
        assert job
        settings = job.settings
        assert 0.001 <= float(settings["lr"]) <= 0.1
        assert len(settings["lr"]) <= 9
        assert settings["size"] in ("8", "16", "24", "32")
        assert settings["drop"] in ("0", "0.25", "0.5")
        assert settings["optimizer"] in ("sgd", "adam")
    assert search.ask(13) is None


def test_it_is_told_the_score_on_held_out_images(tmp_path: Path, scores: dict[int, float]) -> None:
    search = begin(tmp_path, trials=3)
    for number, state in ((1, JobState.FINISHED), (2, JobState.FAILED), (3, JobState.PRUNED)):
        job = search.ask(number)
        assert job
        search.report(job, line(1, 5.0))
        scores[number] = 42.0
        search.tell(job.to(state))
    assert states(search) == ["COMPLETE", "FAIL", "PRUNED"]
    assert search._study.best_value == 42.0


def test_a_trial_worse_than_most_at_the_same_epoch_is_ended(tmp_path: Path) -> None:
    search = begin(tmp_path, trials=9)
    for number in range(1, 7):
        job = search.ask(number)
        assert job
        assert not search.report(job, line(1, 50.0))
        search.tell(job.to(JobState.FINISHED))
    bad, good = search.ask(7), search.ask(8)
    assert bad
    assert good
    assert search.report(bad, line(1, 10.0))
    assert not search.report(good, line(1, 60.0))


def test_a_search_goes_on_with_the_trials_that_were_at_work(tmp_path: Path) -> None:
    search = begin(tmp_path)
    jobs = [job for number in (1, 2) if (job := search.ask(number))]
    search.report(jobs[0], line(1, 5.0))
    search.tell(jobs[1].to(JobState.FINISHED))
    lost = search.ask(3)  # killed before its job was written down
    assert lost
    again = begin(tmp_path, jobs[0], jobs[1].to(JobState.FINISHED))
    assert states(again) == ["RUNNING", "COMPLETE", "FAIL"]
    again.report(jobs[0], line(1, 5.0))  # which it tells again
    again.report(jobs[0], line(2, 6.0))
    again.tell(jobs[0].to(JobState.FINISHED))
    job = again.ask(4)
    assert job
    assert job.settings not in [each.settings for each in (*jobs, lost)]  # it does not draw the same again
    assert again.ask(5) is None
    assert again._study.get_trials()[0].intermediate_values == {1: 5.0, 2: 6.0}


def test_a_kill_while_the_journal_is_written_costs_that_line_alone(tmp_path: Path) -> None:
    """Nor does it leave a lock that nobody gives back."""
    job = begin(tmp_path).ask(1)
    assert job
    with (tmp_path / searching.JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "work')
    again = begin(tmp_path, job)
    assert again.ask(2)
    assert states(begin(tmp_path, job)) == ["RUNNING", "FAIL"]  # the second one has no job
    assert [path.name for path in tmp_path.iterdir()] == [searching.JOURNAL]


def test_settings_that_were_tried_are_told_what_they_came_to(tmp_path: Path) -> None:
    search = begin(tmp_path, space={"optimizer": Choice(("sgd",))}, trials=3)
    job = search.ask(1)
    assert job
    assert search.ask(2) is None  # there is nothing else to try
    assert states(search) == ["RUNNING"] * 3
    search.tell(job.to(JobState.FINISHED))
    assert states(search) == ["COMPLETE"] * 3
    later = begin(tmp_path, job.to(JobState.FINISHED), space={"optimizer": Choice(("sgd",))}, trials=4)
    assert later.ask(2) is None
    assert states(later) == ["COMPLETE"] * 4


def test_other_ranges_under_the_same_name_are_refused(tmp_path: Path) -> None:
    begin(tmp_path, space={"optimizer": Choice(("sgd",))}).ask(1)
    with pytest.raises(InputError, match="other ranges"):
        begin(tmp_path, space={"optimizer": Choice(("adam", "adamw"))}).ask(1)


def test_every_value_that_has_a_name_is_checked_before_the_first_job() -> None:
    space = {"lr": Span(0.1, 1), "optimizer": Choice(("sgd", "adam", "lamb"))}
    assert extremes(space) == [
        {"lr": "0.1", "optimizer": "sgd"}, {"lr": "1", "optimizer": "sgd"},
        {"lr": "0.1", "optimizer": "adam"}, {"lr": "0.1", "optimizer": "lamb"},
    ]  # fmt: skip
