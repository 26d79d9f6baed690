"""Whose a run folder is, and one process at a time in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lshfm.config.changes import ONCE_COUNTED
from lshfm.errors import InputError
from lshfm.files.write import TEMPORARY, write_json, write_text
from lshfm.runs.folder import RunFolder, Status

IDENTITY = {"lr": 0.1, "schedule.steps": [1.0, 2.0], "dataset": "shapes", "model.pool": None}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "train" / "name")


def started(folder: RunFolder) -> RunFolder:
    with folder.occupy(IDENTITY, overwrite=True):
        write_text(folder.last, "weights")
    return folder


def finished(folder: RunFolder) -> RunFolder:
    write_json(started(folder).results, {})
    return folder


def test_looking_leaves_nothing_behind(folder: RunFolder) -> None:
    assert folder.examine(IDENTITY, overwrite=False) is Status.NEW
    assert not folder.path.parent.exists()


def test_new_then_unfinished_then_finished(folder: RunFolder) -> None:
    assert started(folder).examine(IDENTITY, overwrite=False) is Status.UNFINISHED
    assert finished(folder).examine(IDENTITY, overwrite=False) is Status.FINISHED


def test_an_empty_folder_is_new(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    assert folder.examine(IDENTITY, overwrite=False) is Status.NEW


@pytest.mark.parametrize("names", [[".lock"], [".lock", TEMPORARY.format("identity.json")]])
def test_a_run_killed_at_its_very_start_is_new(folder: RunFolder, names: list[str]) -> None:
    folder.path.mkdir(parents=True)
    for name in names:
        (folder.path / name).touch()
    assert folder.examine(IDENTITY, overwrite=False) is Status.NEW


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["thesis.tex", ".git", "last.ckpt", "results.json"])
def test_a_folder_of_something_else_is_refused(folder: RunFolder, name: str, overwrite: bool) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / name).touch()
    with pytest.raises(InputError, match="is not a run of lshfm: choose another name=NAME or output_dir=DIR"):
        folder.examine(IDENTITY, overwrite=overwrite)
    assert (folder.path / name).exists()


@pytest.mark.parametrize("key", sorted(ONCE_COUNTED))
@pytest.mark.parametrize("now", [[], [7]])
def test_what_older_versions_kept_without_need_makes_no_other_run(folder: RunFolder, key: str, now: list[int]) -> None:
    with folder.occupy(IDENTITY | {key: 3}, overwrite=True):
        write_text(folder.last, "weights")
    current = IDENTITY | dict.fromkeys([key] * len(now), 7)
    assert folder.examine(current, overwrite=False) is Status.UNFINISHED


def test_the_identity_is_compared_as_it_is_read_back(folder: RunFolder) -> None:
    same = IDENTITY | {"schedule.steps": (1, 2)}
    assert started(folder).examine(same, overwrite=False) is Status.UNFINISHED


def test_what_differs_is_shown_with_what_to_do(folder: RunFolder) -> None:
    other = {"lr": 0.2, "schedule.steps": [1], "dataset": "shapes", "ema": 0.5}
    with pytest.raises(InputError) as caught:
        started(folder).examine(other, overwrite=False)
    first, *rows, last = str(caught.value).splitlines()
    assert first == f"{folder.path} holds a run with other settings:"
    assert rows == [
        "  ema: None there, 0.5 now",
        "  lr: 0.1 there, 0.2 now",
        "  schedule.steps: [1.0, 2.0] there, [1] now",
    ]
    assert "name=NAME" in last
    assert "overwrite=true" in last


def test_finished_runs_of_other_settings_are_refused_too(folder: RunFolder) -> None:
    with pytest.raises(InputError, match=r"lr: 0\.1 there, 0.2 now"):
        finished(folder).examine(IDENTITY | {"lr": 0.2}, overwrite=False)


def test_overwrite_makes_way_but_still_continues_an_unfinished_run(folder: RunFolder) -> None:
    assert started(folder).examine(IDENTITY, overwrite=True) is Status.UNFINISHED
    assert folder.examine(IDENTITY | {"lr": 0.2}, overwrite=True) is Status.NEW
    assert finished(folder).examine(IDENTITY, overwrite=True) is Status.NEW


def test_a_new_run_starts_with_an_empty_folder(folder: RunFolder, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    finished(folder)
    (folder.path / "devkit" / "deep").mkdir(parents=True)
    (folder.path / "link").symlink_to(precious)
    with folder.occupy(IDENTITY | {"lr": 0.2}, overwrite=True):
        assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "identity.json"]
        write_text(folder.last, "weights")
    assert folder.examine(IDENTITY | {"lr": 0.2}, overwrite=False) is Status.UNFINISHED
    assert (precious / "file").exists()


def test_a_continued_run_keeps_its_files_but_for_left_overs(folder: RunFolder) -> None:
    started(folder)
    left_over = folder.path / TEMPORARY.format("last.ckpt")
    left_over.write_text("half")
    with folder.occupy(IDENTITY, overwrite=False):
        assert folder.last.read_text() == "weights"
        assert not left_over.exists()


def test_a_folder_stays_ours_wherever_emptying_it_is_cut_off(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def removals() -> int:
        """Files a fresh finished folder loses."""
        return len(list(finished(folder).path.iterdir())) - 1

    unlink = Path.unlink
    for allowed in range(removals()):
        left = [allowed]

        def dying(path: Path, missing_ok: bool = False, left: list[int] = left) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            unlink(path, missing_ok)

        finished(folder)
        monkeypatch.setattr(Path, "unlink", dying)
        with pytest.raises(Killed), folder.occupy(IDENTITY, overwrite=True):
            pass
        monkeypatch.undo()
        assert folder.examine(IDENTITY, overwrite=True) in (Status.NEW, Status.UNFINISHED)


def test_a_second_run_in_the_folder_is_refused(folder: RunFolder) -> None:
    with folder.occupy(IDENTITY, overwrite=False):
        write_text(folder.last, "weights")
        second = RunFolder(folder.path)
        with (
            pytest.raises(InputError, match=r"another lshfm process is running in .*name=NAME"),
            second.occupy({}, overwrite=False),
        ):
            pass
        assert folder.last.exists()


def test_a_run_that_another_process_finished_meanwhile_is_not_emptied(folder: RunFolder) -> None:
    finished(folder)
    with pytest.raises(InputError, match="has just finished"), folder.occupy(IDENTITY, overwrite=False):
        pass
    assert folder.results.exists()


def test_the_folder_is_free_after_a_failure(folder: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), folder.occupy(IDENTITY, overwrite=False):
        _ = 1 / 0
    with folder.occupy(IDENTITY, overwrite=False):
        pass


@pytest.mark.slow
def test_a_killed_process_holds_nothing(folder: RunFolder) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom lshfm.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).occupy({'lr': 0.1}, overwrite=False):\n"
        "    print('in', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "in\n"
        with pytest.raises(InputError, match="another lshfm process"), folder.occupy({}, overwrite=False):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert folder.examine({"lr": 0.2}, overwrite=False) is Status.NEW  # no epoch was done: nothing is lost
    with folder.occupy({"lr": 0.1}, overwrite=False):
        pass


def kept(folder: RunFolder) -> list[str]:
    return [path.read_text() for path in folder.lasts()]


def save(folder: RunFolder, *texts: str, keep: int) -> None:
    """As a checkpoint is written: another file takes the name."""
    folder.path.mkdir(parents=True, exist_ok=True)
    for text in texts:
        folder.shift_lasts(keep)
        write_text(folder.last, text)


@pytest.mark.parametrize(
    ("keep", "left"), [(1, ["5"]), (2, ["5", "4"]), (3, ["5", "4", "3"]), (9, ["5", "4", "3", "2", "1"])]
)
def test_so_many_checkpoints_are_kept(folder: RunFolder, keep: int, left: list[str]) -> None:
    save(folder, *"12345", keep=keep)
    assert kept(folder) == left


def test_more_than_ten_stay_in_order_and_fewer_may_be_asked_for(folder: RunFolder) -> None:
    save(folder, *map(str, range(20)), keep=12)
    assert kept(folder) == [str(number) for number in range(19, 7, -1)]
    save(folder, "20", keep=2)
    assert kept(folder) == ["20", "19"]


@pytest.mark.parametrize("damaged", [0, 1, 2])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_damaged_checkpoints_push_no_usable_one_out(folder: RunFolder, keep: int, damaged: int) -> None:
    save(folder, *"123", keep=3)
    folder.unusable = folder.lasts()[:damaged]
    usable = kept(folder)[damaged:]
    folder.shift_lasts(keep)
    assert usable[0] in kept(folder)  # a run killed now can go on
    write_text(folder.last, "4")
    save(folder, "5", keep=keep)
    assert kept(folder) == ["5", "4", *usable][:keep]


def test_a_run_that_has_only_an_older_checkpoint_is_not_bare(folder: RunFolder) -> None:
    """Other settings do not make way for themselves."""
    started(folder)
    save(folder, *"12", keep=2)
    folder.last.unlink()
    with pytest.raises(InputError, match="holds a run with other settings"):
        folder.examine(IDENTITY | {"lr": 0.5}, overwrite=False)


def test_what_is_settled_at_the_end_may_be_changed_until_then(folder: RunFolder) -> None:
    """A run that was to choose its best epoch, and found none, ends by its last."""
    begun = IDENTITY | {"select": "best"}
    with folder.occupy(begun, overwrite=False):
        write_text(folder.last, "weights")
    now = begun | {"select": "last"}
    assert folder.examine(now, overwrite=False) is Status.UNFINISHED
    with folder.occupy(now, overwrite=False):
        assert folder.last.read_text() == "weights"
        write_json(folder.results, {})
    assert folder.examine(now, overwrite=False) is Status.FINISHED
    with pytest.raises(InputError, match="select: last there, best now"):
        folder.examine(begun, overwrite=False)


TODAY = IDENTITY | {"dataset.holdout_by": "labels", "dataset.exif": True}
OLDER = IDENTITY | {"dataset.holdout_by": "chance", "dataset.exif": False}


def test_a_run_of_an_older_version_keeps_what_its_settings_meant(folder: RunFolder) -> None:
    assert folder.as_begun(TODAY, overwrite=False) == TODAY
    started(folder)
    assert folder.is_of(TODAY)
    for overwrite in (False, True):
        assert folder.as_begun(TODAY, overwrite=overwrite) == OLDER
    assert folder.examine(OLDER, overwrite=False) is Status.UNFINISHED
    write_json(folder.results, {})
    assert folder.as_begun(TODAY, overwrite=True) == TODAY  # it is to be trained anew


def test_without_a_held_out_part_an_older_run_is_as_today(folder: RunFolder) -> None:
    plain = IDENTITY | {"dataset.holdout_by": None, "dataset.exif": False}
    assert started(folder).as_begun(plain, overwrite=False) == plain
    assert folder.examine(plain, overwrite=False) is Status.UNFINISHED
