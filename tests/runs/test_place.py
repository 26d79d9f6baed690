"""Where a run goes: what lies there already is asked for without touching it."""

from pathlib import Path
from typing import Any

import pytest

from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.files.write import write_checkpoint, write_text
from lshfm.models.cifar import cifar_classifier
from lshfm.runs.folder import Status
from lshfm.runs.layout import pack
from lshfm.runs.place import RunPlace, settings_identity, weights_identity
from lshfm.runs.record import Results
from tests.jobs import changed, splits

IDENTITY = {"lr": 0.1, "model": "resnet8"}


@pytest.fixture
def here(settings: Train, tmp_path: Path) -> Train:
    """Settings of a run in a folder of its own."""
    return changed(settings, {"output_dir": f"{tmp_path}/outputs", "checkpoint_dir": f"{tmp_path}/checkpoints"})


def place(here: Train, **others: Any) -> RunPlace:
    return RunPlace.of(changed(here, others), "a", IDENTITY)


def finish(here: Train, identity: dict[str, Any] | None = None) -> RunPlace:
    """A run that is done, whose checkpoint says that it is of `identity`."""
    run = place(here)
    with run.occupied(here) as folder:
        write_text(folder.last, "weights")
        content = pack(here, here.model, cifar_classifier("resnet8", 2), ["a", "b"], identity=identity or IDENTITY)
        write_checkpoint(run.checkpoint, content)
        Results(name="a", metric="voc2010 mAP", score=12.5, report={}).write(folder.results)
    return run


def seen(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file, when it was written and with what."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_where_it_is(here: Train, tmp_path: Path) -> None:
    run = place(here)
    assert (run.folder.path, run.checkpoint) == (tmp_path / "outputs/train/a", tmp_path / "checkpoints/a.ckpt")


def test_status_asks_and_changes_nothing(here: Train, tmp_path: Path) -> None:
    assert place(here).status() is Status.NEW
    assert seen(tmp_path) == {}
    run = finish(here)
    before = seen(tmp_path)
    assert (run.status(), place(here, overwrite=True).status()) == (Status.FINISHED, Status.NEW)
    assert seen(tmp_path) == before
    run.checkpoint.unlink()
    before = seen(tmp_path)
    assert (run.status(), run.is_finished()) == (Status.UNFINISHED, False)
    assert seen(tmp_path) == before
    assert run.folder.results in before


def test_a_run_whose_checkpoint_was_taken_away_is_reopened_when_it_goes_on(here: Train) -> None:
    run = finish(here)
    run.checkpoint.unlink()
    with run.occupied(here) as folder:
        assert not folder.results.exists()
        assert folder.last.read_text() == "weights"
        assert "lr: 0.1\n" in (folder.path / "config.yaml").read_text()


def test_a_finished_run_says_so(here: Train, said: list[str]) -> None:
    run = finish(here)
    assert run.is_finished()
    assert said == [
        f"{run.folder.path} is finished: voc2010 mAP 12.50; its checkpoint is {run.checkpoint}. Nothing to do; "
        "overwrite=true trains it again."
    ]
    assert run.is_finished(goes_on=True)
    assert said[1].endswith(f"its checkpoint is {run.checkpoint}. Stage 2 follows.")


def test_another_runs_checkpoint_is_in_the_way(here: Train, tmp_path: Path) -> None:
    finish(here, {"lr": 0.2, "model": "resnet8"})
    before = seen(tmp_path)
    message = r"a\.ckpt is there already, from another run: name=NAME or checkpoint_dir=DIR keeps both"
    for elsewhere in ({"output_dir": f"{tmp_path}/others"}, {}):  # a folder of its own, or the finished run's
        with pytest.raises(InputError, match=message):
            place(here, **elsewhere).status()
    assert place(here, overwrite=True).status() is Status.NEW
    assert seen(tmp_path) == before


def test_an_identity_holds_what_changes_numbers_and_the_data(here: Train) -> None:
    train, test = splits(here)
    identity = settings_identity(here, train, test)
    assert (identity["lr"], identity["dataset"], identity["model"], identity["loss"]) == (
        here.lr, "shapes", "resnet8", "bce",
    )  # fmt: skip
    assert (identity["data.train"], identity["data.eval"]) == (train.fingerprint(), test.fingerprint())
    assert not {"output_dir", "name", "gpus", "dataset.cache_dir", "model._target_"} & identity.keys()


def test_weights_are_what_they_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("weights")
    assert weights_identity(str(tmp_path / "a")) == weights_identity(str(tmp_path / "b"))
    assert (weights_identity("auto"), weights_identity("none"), weights_identity(None)) == ("imagenet", "none", None)
