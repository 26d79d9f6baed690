"""The terminal's recording: what a command sends to a terminal becomes a picture that fetches nothing."""

import subprocess
from pathlib import Path

import pytest

from docs.made import recording


def test_lines_stand_as_they_do_on_a_terminal_in_the_end() -> None:
    said = b"train 1/2\r\x1b[Ktrain 2/2\r\n\x1b[1;32mfinished:\x1b[0m mAP 50\r\n\r\n"
    lines = recording.on_screen(said)
    assert [line.plain for line in lines] == ["train 2/2", "finished: mAP 50"]
    assert next((span.start, span.end, str(span.style)) for span in lines[1].spans) == (0, 9, "bold green")


def test_only_the_end_of_a_run_is_shown() -> None:
    lines = recording.on_screen(b"lshfm 1 is starting\r\nepoch 1\r\nfinished: a\r\nepoch 1\r\nfinished: b\r\ntable\r\n")
    assert [line.plain for line in recording.shortened(lines)] == ["...", "finished: b", "table"]
    others = recording.on_screen(b"lshfm 1 is starting\r\nreport.html: 4 runs\r\n")
    assert [line.plain for line in recording.shortened(others)] == ["report.html: 4 runs"]


def test_a_story_becomes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FOLDER", tmp_path)
    monkeypatch.setattr(recording, "STORY", ("--version", "completion zsh"))
    monkeypatch.setattr(recording, "SHOWN", (0,))
    monkeypatch.setattr(recording, "screenshot", lambda _page, picture: picture.write_bytes(b""))
    recording.main()
    picture = (tmp_path / "terminal.svg").read_text()
    assert "lshfm&#160;0." in picture
    assert "compdef" not in picture
    assert "https:" not in picture


def test_a_command_that_fails_ends_the_story(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        recording.typed("trian", tmp_path)
    assert "no such command: trian" in capfd.readouterr().err
