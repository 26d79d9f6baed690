"""The pictures of the README: a terminal's recording of a short story on the embedded set, and its report.

python -m docs.made.recording runs it (some minutes on one CPU thread) and writes docs/pictures/terminal.svg and, where
Chromium is installed, docs/pictures/report.png.
"""

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from io import StringIO
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyte
from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parents[1] / "pictures"
PROGRAM = Path(sys.executable).with_name("lshfm")
COLUMNS, ROWS = 110, 500
STORY = (
    "train epochs=6 name=teacher",
    "train epochs=6 model=resnet8 name=alone",
    "mimic epochs=6 stage1.epochs=1 teacher=teacher student=resnet8 loss.beta=3 loss.hash_num=512 name=student",
    "eval alone teacher=teacher",
    "runs sort=score",
    "report outputs",
)
SHOWN = (0, 2, 4, 5)  # of the story, in the recording
# rich's own has fonts from elsewhere.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def typed(words: str, folder: Path) -> bytes:
    """What a terminal of COLUMNS is sent by a command. Raises CalledProcessError if it fails."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    command = [str(PROGRAM), *words.split()]
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    said = b"".join(_read(leader))
    if running.wait():
        sys.stderr.write(said.decode())
        raise subprocess.CalledProcessError(running.returncode, command)
    return said


def _read(leader: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            return
        if not piece:
            return
        yield piece


def on_screen(said: bytes) -> list[Text]:
    """The lines that stand on a terminal in the end, with their colours."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(said)
    lines = []
    for row in range(screen.cursor.y + 1):
        cells = [(each.data, style_of(each)) for each in (screen.buffer[row][column] for column in range(COLUMNS))]
        pieces = [("".join(data for data, _ in run), style) for style, run in groupby(cells, key=itemgetter(1))]
        line = Text.assemble(*pieces)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def style_of(cell: Any) -> str:
    """rich's words for the colour and weight of a terminal's cell."""
    colour = str(cell.fg).replace("brown", "yellow")
    return ("bold " if cell.bold else "") + (colour if colour.isalpha() else f"#{colour}")


def shortened(lines: list[Text]) -> list[Text]:
    """What a command says in the end: from its last line "finished: ..." on, with ... for what is left out."""
    lines = [line for line in lines if "is starting" not in line.plain]
    ends = [number for number, line in enumerate(lines) if line.plain.startswith("finished: ")]
    return [Text("...", "bright_black"), *lines[ends[-1] :]] if ends else lines


def recording(said: list[tuple[str, list[Text]]]) -> str:
    """The SVG of commands and of what they say."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for words, lines in said:
        console.print(Text(f"$ lshfm {words}", "bold green"))
        for line in shortened(lines):
            console.print(line, no_wrap=True, crop=True)
        console.print()
    return console.export_svg(title="lshfm", code_format=FORMAT, unique_id="lshfm")


def screenshot(page: Path, picture: Path) -> None:
    """A PNG of the upper part of a page, if there is a browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        print("no chromium: the report's picture stays as it is")
        return
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1400"]
    subprocess.run([browser, *flags, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)


def main() -> None:
    """Run the story in a folder of its own, and write the pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.environ.get("LSHFM_STORY", name))
        said = [(words, on_screen(typed(words, folder))) for words in STORY]
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "terminal.svg").write_text(recording([said[number] for number in SHOWN]), encoding="utf-8")
        screenshot(folder / "report.html", FOLDER / "report.png")


if __name__ == "__main__":
    main()
