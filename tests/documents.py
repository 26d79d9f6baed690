"""The pages that people read, their fenced blocks, and the command lines in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAMS = ("lshfm", "make", "pip", "python", "torchrun", "srun", "source", "git", "cd", "mkdir", "cp")
COMMENT = re.compile(r"\s+#\s.*$")
VARIABLE = re.compile(r"^[A-Z_]+=\S+\s+")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page and line where it begins, what stands behind the fence, the line above it, its lines."""

    page: str
    line: int
    info: str
    above: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def is_shell(self) -> bool:
        """Whether it holds what one types: no language, and a line that begins with a program."""
        return self.info in ("", "sh") and any(program_of(line) in PROGRAMS for line in self.lines)

    def commands(self) -> list[str]:
        """The command lines, those over several lines joined, without comments and prompts."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = [COMMENT.sub("", line).strip() for line in joined.splitlines()]
        if any(line.startswith("$ ") for line in lines):  # a transcript: what is typed, and what is said
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def program_of(line: str) -> str:
    """The program that a command line starts, without its folder and the variables in front."""
    words = VARIABLE.sub("", line.removeprefix("$ ").strip()).split()
    return words[0].rpartition("/")[2] if words else ""


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page. Raises AssertionError for a fence that is not closed."""
    lines, start, info, above = page.read_text(encoding="utf-8").splitlines(), None, "", ""
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if start is None:
            start, info, above = number, line.removeprefix("```").strip(), lines[number - 2] if number > 1 else ""
        else:
            name = str(page.relative_to(ROOT))
            yield Block(name, start, info, above, tuple(lines[start : number - 1]))
            start = None
    assert start is None, f"{page}:{start}: a block is not closed"


BLOCKS = [block for page in PAGES if page.is_file() for block in blocks_of(page)]


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
