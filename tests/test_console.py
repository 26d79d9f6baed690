"""What is shown, piece by piece."""

import io
import logging

import pytest
from rich.console import Console

from lshfm import console
from lshfm.console import Bar, Columns, show_tables, speed
from lshfm.errors import count
from lshfm.report import multilabel


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The console's file, a terminal of 80 columns without colours."""
    monkeypatch.setenv("TERM", "xterm")
    file, shown = Screen(), console._Console(force_terminal=True, color_system=None, width=80, **console._AS_IT_IS)
    shown.file = file
    monkeypatch.setattr(console, "console", shown)
    return file


@pytest.mark.parametrize(
    ("rate", "said"),
    [(682.4, "682 images/s"), (10.4, "10 images/s"), (9.96, "10 images/s"), (3.21, "3.2 images/s"),
     (0.18, "0.18 images/s"), (0.0123, "0.012 images/s")],
)  # fmt: skip
def test_slow_rates_are_no_zeros(rate: float, said: str) -> None:
    assert speed(rate) == said


ONE = {"epoch": "1/3", "bce": "0.6289", "voc2010 mAP": "22.07", "images/s": "682"}


class TestColumns:
    def test_a_head_and_rows_under_it(self) -> None:
        columns = Columns()
        assert columns.row(ONE, 80).plain.splitlines() == [
            "  epoch      bce  voc2010 mAP  images/s",
            "    1/3   0.6289        22.07       682",
        ]
        assert columns.row(ONE | {"epoch": "2/3"}, 80).plain == "    2/3   0.6289        22.07       682"

    def test_as_wide_as_fits(self) -> None:
        assert Columns().row(ONE, 39).plain.count("\n") == 1
        assert Columns().row(ONE, 38).plain.splitlines() == [
            "  epoch      bce  voc2010 mAP",
            "         images/s",
            "    1/3   0.6289        22.07",
            "              682",
        ]

    def test_the_narrowest_terminal_has_one_column_beside_the_first(self) -> None:
        lines = Columns().row(ONE, 1).plain.splitlines()
        assert lines[:3] == ["  epoch      bce", "         voc2010 mAP", "         images/s"]
        assert lines[3:] == ["    1/3   0.6289", "               22.07", "              682"]

    def test_the_head_comes_again_for_other_widths_and_columns(self) -> None:
        columns = Columns()
        columns.row(ONE, 80)
        assert "epoch" in columns.row(ONE, 30).plain
        assert "epoch" not in columns.row(ONE, 30).plain
        assert "epoch" in columns.row({"epoch": "2/3", "l2": "0.1"}, 30).plain
        assert "epoch" in columns.row({"epoch": "2/3", "l2": "12345.6789"}, 30).plain
        assert "epoch" not in columns.row({"epoch": "3/3", "l2": "0.1"}, 30).plain

    def test_and_when_it_has_scrolled_away(self) -> None:
        columns = Columns()
        heads = [number for number in range(45) if "epoch" in columns.row(ONE, 80).plain]
        assert heads == [0, 20, 40]

    def test_the_log_has_the_plain_line(self, screen: Screen) -> None:
        handler, said = console._ToConsole(), []
        kept = logging.Handler()
        kept.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        console.logger.handlers, before = [handler, kept], console.logger.handlers
        level = console.logger.level
        console.logger.setLevel(logging.INFO)
        try:
            Columns().log({"epoch": "1/3"}, "epoch 1/3  bce 0.5")
        finally:
            console.logger.handlers = before
            console.logger.setLevel(level)
        assert screen.getvalue() == "  epoch\n    1/3\n"
        assert said == ["epoch 1/3  bce 0.5"]


@pytest.mark.parametrize("width", range(40, 201))
def test_bar_count_and_time_keep_their_widths(width: int) -> None:
    bar = Bar("", 12000)
    bar.update(6000, "epoch 2/80  bce 0.1234  lsh 0.6789" + 20 * "  name 0.12")
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, force_terminal=True, color_system=None).print(
        bar._progress.get_renderable()
    )
    row = out.getvalue().rstrip("\n")
    assert row[:33] == "━━━━━       6000/12000  -:--:-- e"
    assert len(row) == width
    assert row.endswith("…")


def test_bars_draw_on_terminals_alone(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR makes rich take a pipe for one."""
    with Bar("evaluating", 2):
        pass
    assert " 0/2  -:--:-- evaluating" in screen.getvalue()
    before = screen.getvalue()
    monkeypatch.setattr(Screen, "isatty", lambda self: False)
    with Bar("evaluating", 2):
        pass
    assert screen.getvalue() == before


def test_a_terminal_breaks_lines_between_words(screen: Screen) -> None:
    console.console.width = 20
    path = "a/path/that/is/longer/than/a/line"
    console._ToConsole().emit(record(logging.INFO, f"the checkpoint is written to {path} now"))
    assert screen.getvalue().split("\n") == ["the checkpoint is", "written to", path, "now", ""]


@pytest.mark.parametrize(("number", "said"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_a_number_of_things(number: int, said: str) -> None:
    assert count(number, "class", "classes") == said


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("lshfm", level, "", 0, message, None, None)


@pytest.mark.parametrize(
    ("level", "variables", "shown"),
    [
        (logging.INFO, {}, "[a] :warning: is b\n"),
        (logging.WARNING, {}, "\x1b[1;33mwarning: \x1b[0m[a] :warning: is b\n"),
        (logging.ERROR, {}, "\x1b[1;31merror: \x1b[0m[a] :warning: is b\n"),
        (logging.WARNING, {"NO_COLOR": "1"}, "\x1b[1mwarning: \x1b[0m[a] :warning: is b\n"),
    ],
)
def test_warnings_stand_out(monkeypatch: pytest.MonkeyPatch, level: int, variables: dict[str, str], shown: str) -> None:
    environment = {"TERM": "xterm", "FORCE_COLOR": "1", **variables}
    out = console._Console(file=io.StringIO(), _environ=environment, **console._AS_IT_IS)
    monkeypatch.setattr(console, "console", out)
    console._ToConsole().emit(record(level, "[a] :warning: is b"))
    assert out.file.getvalue() == shown  # type: ignore[attr-defined]


def test_without_a_terminal_nothing_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console._Console(file=io.StringIO(), _environ={}, **console._AS_IT_IS)
    monkeypatch.setattr(console, "console", out)
    console._ToConsole().emit(record(logging.WARNING, "a is b"))
    assert out.file.getvalue() == "warning: a is b\n"  # type: ignore[attr-defined]


def test_no_number_is_cut_on_a_narrow_terminal(screen: Screen) -> None:
    console.console.width = 40
    figures = dict.fromkeys(("CP", "CR", "CF1", "OP", "OR", "OF1"), 12.34)
    show_tables(multilabel._thresholds({"threshold_0.5": figures, "top_3": figures}))
    assert screen.getvalue().count(" 12.34 ") == 12


def test_what_an_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {}
    for name, encoding in (("stdout", "latin-1"), ("stderr", "utf-8")):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(console.sys, name, streams[name])
    console._escape_what_cannot_be_shown()
    for stream in streams.values():
        stream.write("é狗")
        stream.flush()
    assert [stream.buffer.getvalue() for stream in streams.values()] == [b"\xe9\\u72d7", "é狗".encode()]  # type: ignore[attr-defined]
    assert streams["stderr"].errors == "strict"
