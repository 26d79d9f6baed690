"""metrics.jsonl and results.json: written, read back, damaged, of other versions."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lshfm.engine.lines import EpochLine, Line, StepLine, Waiting
from lshfm.errors import InputError
from lshfm.runs.record import Metrics, Results, read_metrics

SAMPLES = Path(__file__).resolve().parents[1] / "samples"

AT = "2026-11-26T21:54:38Z"
STEP, EPOCH = (f'{{"version": 2, "kind": "{kind}", "time": "{AT}", "epoch": ' for kind in ("step", "epoch"))
LINES: dict[str, Line] = {
    STEP + '1, "step": 2, "lr": 0.1, "bce": 0.5, "lsh": -1.0}': StepLine(1, 2, 0.1, {"bce": 0.5, "lsh": -1.0}, time=AT),
    STEP + '3, "step": 1, "lr": 1e-05, "l2": 2.0, "images_per_second": 9.5, '
    '"waiting": {"seconds": 0.125, "for_rank": 1}}': StepLine(
        3, 1, 1e-5, {"l2": 2.0}, 9.5, Waiting(0.125, 1), time=AT
    ),
    EPOCH + '1, "metric": "voc2010 mAP", "score": 27.5}': EpochLine(1, "voc2010 mAP", 27.5, time=AT),
    EPOCH + '2, "metric": "hash agreement", "score": null, "validation_loss": 0.25, "seconds": 8.5, "angle": 61.5, '
    '"teacher mAP": null}': EpochLine(
        2, "hash agreement", None, {"angle": 61.5, "teacher mAP": None}, 0.25, 8.5, AT
    ),
}  # fmt: skip
OF_VERSION_1: dict[str, Line] = {
    '{"epoch": 1, "step": 2, "lr": 0.1, "bce": 0.5, "lsh": -1.0}': StepLine(1, 2, 0.1, {"bce": 0.5, "lsh": -1.0}),
    '{"epoch": 1, "step": 4, "lr": 0.05, "l2": 2.0, "images_per_second": 20.25}': StepLine(
        1, 4, 0.05, {"l2": 2.0}, 20.25
    ),
    '{"epoch": 3, "step": 1, "lr": 1e-05, "l2": 2.0, "images_per_second": 9.5, '
    '"waiting": {"seconds": 0.125, "for_rank": 1}}': StepLine(3, 1, 1e-5, {"l2": 2.0}, 9.5, Waiting(0.125, 1)),
    '{"epoch": 1, "metric": "voc2010 mAP", "score": 27.5}': EpochLine(1, "voc2010 mAP", 27.5),
    '{"epoch": 2, "metric": "hash agreement", "score": null, "angle": 61.5, "teacher mAP": null}': EpochLine(
        2, "hash agreement", None, {"angle": 61.5, "teacher mAP": None}
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


class TestMetrics:
    def test_the_layout_to_the_byte(self, path: Path) -> None:
        for line in LINES.values():
            Metrics(path).write(line)
        assert path.read_text() == "".join(f"{text}\n" for text in LINES)

    def test_lines_are_read_as_they_were_written(self, path: Path) -> None:
        path.write_text("\n".join(LINES))
        assert [vars(line) for line in read_metrics(path)] == [vars(line) for line in LINES.values()]

    def test_lines_of_version_1_are_read(self, path: Path) -> None:
        path.write_text("\n".join(OF_VERSION_1))
        assert [vars(line) for line in read_metrics(path)] == [vars(line) for line in OF_VERSION_1.values()]

    def test_a_line_has_the_time_when_it_was_written(self, path: Path) -> None:
        before = datetime.now(UTC).replace(microsecond=0)
        Metrics(path).write(StepLine(1, 1, 0.1, {}))
        (line,) = read_metrics(path)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(line.time))
        assert before <= datetime.fromisoformat(str(line.time)) <= datetime.now(UTC)

    def test_no_nan(self, path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            Metrics(path).write(StepLine(1, 1, 0.1, {"bce": float("nan")}))
        assert not path.exists()

    @pytest.mark.parametrize("path", sorted(SAMPLES.rglob("metrics.jsonl")), ids=lambda path: path.parent.name)
    def test_files_of_before_are_read_whole(self, path: Path, tmp_path: Path) -> None:
        again = Metrics(tmp_path / "again.jsonl")
        for line in read_metrics(path):
            again.write(line)
        assert len(read_metrics(path)) == len(path.read_text().splitlines())
        assert read_metrics(again.path) == read_metrics(path)

    def test_version_1_may_be_named(self, path: Path) -> None:
        path.write_text('{"version": 1, "epoch": 1, "metric": "mAP", "score": 2.5}\n')
        assert read_metrics(path) == [EpochLine(1, "mAP", 2.5)]

    def test_a_newer_version_is_refused(self, path: Path) -> None:
        path.write_text(f'{next(iter(LINES))}\n{{"version": 3, "epoch": 1}}\n')
        before = path.read_text()
        with pytest.raises(InputError, match=r"metrics\.jsonl was written by a newer lshfm: upgrade to read it"):
            read_metrics(path)
        with pytest.raises(InputError, match="upgrade"):
            Metrics(path).forget_after(0, 0)
        assert path.read_text() == before


BROKEN = [
    "", "{", "[1]", "null", "3", '"epoch"', "{}", '{"epoch": 1, "st', '{"step": 1}', '{"epoch": 1, "step": 1}',
    '{"epoch": null, "metric": "mAP", "score": 1.0}', '{"epoch": 1, "step": 1, "lr": 0.1, "bce": null}',
    '{"version": null, "epoch": 1, "metric": "mAP", "score": 1.0}', "\x00",
]  # fmt: skip


class TestForgetting:
    def steps_and_epochs(self, path: Path) -> list[tuple[int, int | None]]:
        return [(line.epoch, line.step if isinstance(line, StepLine) else None) for line in read_metrics(path)]

    @pytest.mark.parametrize(
        ("done", "kept"),
        [
            ((0, 0), []),
            ((0, 1), [(1, 1)]),
            ((1, 0), [(1, 1), (1, 2), (1, None)]),
            ((1, 1), [(1, 1), (1, 2), (1, None), (2, 1)]),
            ((2, 0), [(1, 1), (1, 2), (1, None), (2, 1), (2, 2), (2, None)]),
        ],
    )
    def test_lines_on_what_will_be_done_again_go(
        self, path: Path, done: tuple[int, int], kept: list[tuple[int, int | None]]
    ) -> None:
        for epoch in (1, 2):
            for step in (1, 2):
                Metrics(path).write(StepLine(epoch, step, 0.1, {}))
            Metrics(path).write(EpochLine(epoch, "mAP", 1.0))
        Metrics(path).forget_after(*done)
        assert self.steps_and_epochs(path) == kept

    def test_what_stays_is_not_written_anew(self, path: Path) -> None:
        line = '{"score": 1.50, "epoch":1,   "metric": "mAP"}\n'
        path.write_text(line)
        Metrics(path).forget_after(1, 0)
        assert path.read_text() == line

    @pytest.mark.parametrize("line", BROKEN)
    def test_what_is_no_line_of_ours_goes(self, path: Path, line: str) -> None:
        good = '{"epoch": 1, "metric": "mAP", "score": 1.0}'
        path.write_text(f"{line}\n{good}\n{line}")
        assert read_metrics(path) == [EpochLine(1, "mAP", 1.0)]
        Metrics(path).forget_after(1, 0)
        assert path.read_text() == f"{good}\n"

    def test_bytes_that_are_no_text_go(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe\x00\n")
        Metrics(path).forget_after(9, 9)
        assert path.read_bytes() == b""

    def test_where_there_is_no_file_none_is_made(self, path: Path) -> None:
        Metrics(path).forget_after(1, 0)
        assert not path.exists()


RESULTS = Results(name="a", command="train", metric="mAP", score=12.5, report={"mAP": 12.5, "ap": {"x": None}})


class TestResults:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "results.json"

    def test_there_and_back_again(self, path: Path) -> None:
        whole = Results(
            name="a_stage2", command="mimic", command_line=["lshfm", "mimic", "stage=2"], lshfm="0.1", revision="abc",
            stage="2", loss="lshl2", teacher={"name": "t", "checkpoint": "t.ckpt", "identity": "0f"}, dataset="shapes",
            metric="voc2010 mAP", score=31.0, epoch=2, split="test", data="1e", best={"epoch": 2}, report={"mAP": 31.0},
            best_chosen_on="test", history=[{"epoch": 1}, {"epoch": 2}], checkpoint="a.ckpt", training_seconds=3.5,
            evaluation_seconds=1.0, images_per_second=99.5, peak_memory={"host_MiB": 512, "gpu_MiB": None},
            hardware={"device": "CPU"}, starting_weights="stage 1, s.ckpt", stage1="s.ckpt",
            label_loss=0.5, label_loss_name="bce", label_loss_counted={"pos_weight": [1.5]},
            planned_before=[{"epochs": 1, "until_epoch": 1, "until_step": 0}], average={"epochs": 10, "score": 31.5},
        )  # fmt: skip
        assert all(value is not None for value in vars(whole).values())
        whole.write(path)
        assert Results.read(path) == whole

    def test_none_is_left_out_but_not_in_a_report(self, path: Path) -> None:
        RESULTS.write(path)
        assert json.loads(path.read_text()) == {
            "version": 2, "name": "a", "command": "train", "metric": "mAP", "score": 12.5,
            "report": {"mAP": 12.5, "ap": {"x": None}},
        }  # fmt: skip
        assert Results.read(path) == RESULTS

    def test_no_nan(self, path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            Results(name="a", metric="mAP", score=float("inf"), report={}).write(path)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("command", "training", "evaluation"), [("train", 7.5, None), ("mimic", 7.5, None), ("eval", None, 7.5)]
    )
    def test_version_1_had_one_number_of_seconds(
        self, path: Path, command: str, training: float | None, evaluation: float | None
    ) -> None:
        path.write_text(
            json.dumps({"name": "a", "command": command, "metric": "mAP", "score": None, "report": {}, "seconds": 7.5})
        )
        read = Results.read(path)
        assert (read.training_seconds, read.evaluation_seconds, read.score) == (training, evaluation, None)

    @pytest.mark.parametrize("sample", sorted(SAMPLES.rglob("results.json")), ids=lambda path: path.parent.name)
    def test_files_of_before(self, sample: Path, path: Path) -> None:
        before, read = json.loads(sample.read_text()), Results.read(sample)
        seconds = before.pop("seconds")
        assert {name: getattr(read, name) for name in before} == before
        assert (read.evaluation_seconds if before["command"] == "eval" else read.training_seconds) == seconds
        read.write(path)
        assert Results.read(path) == read

    def test_the_samples_are_of_every_command(self) -> None:
        commands = Counter(Results.read(path).command for path in SAMPLES.rglob("results.json"))
        assert set(commands) == {"train", "mimic", "eval"}

    @pytest.mark.parametrize(
        "text",
        [
            "", "{", "[]", "[1]", "null", "{}", "3", "\x00", '{"name": "a", "report": {}}',
            '{"name": "a", "metric": 3, "report": {}}', '{"name": "a", "metric": "mAP", "score": "12", "report": {}}',
            '{"name": "a", "metric": "mAP", "score": true, "report": {}}',
            '{"name": "a", "metric": "mAP", "report": []}', '{"name": "a", "metric": "mAP"}',
            '{"version": "two", "name": "a", "metric": "mAP", "report": {}}',
            '{"name": "a", "metric": "mAP", "report": {}, "history": {"epoch": 1}}',
        ],
    )  # fmt: skip
    def test_damage_is_one_message(self, path: Path, text: str) -> None:
        path.write_text(text)
        with pytest.raises(InputError, match=r"results\.json is damaged: delete it, and the same command"):
            Results.read(path)

    def test_bytes_that_are_no_text(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match="is damaged"):
            Results.read(path)

    def test_a_whole_number_is_a_score(self, path: Path) -> None:
        path.write_text('{"name": "a", "metric": "mAP", "score": 12, "report": {}}')
        assert Results.read(path).score == 12

    def test_unknown_keys_are_passed_over(self, path: Path) -> None:
        RESULTS.write(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"mood": "good"}))
        assert Results.read(path) == RESULTS

    def test_a_newer_version_is_refused(self, path: Path) -> None:
        path.write_text('{"version": 3, "lshfm": "9.1", "metrics": "elsewhere"}')
        with pytest.raises(InputError, match=r"written by a newer lshfm \(9\.1\): upgrade to read it"):
            Results.read(path)
