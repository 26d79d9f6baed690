"""`make bench`: run the parts that are asked for and not there yet, draw how cost grows, and print the tables.

python -m benchmarks.speed [PARTS ...] [--short] [--again] [--list] [--table]
"""

import argparse
import sys
import tempfile
import time
import traceback
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.speed import machine
from benchmarks.speed.parts import Context, parts
from benchmarks.speed.plot import growth
from benchmarks.speed.results import FOLDER, Record, code_digest
from benchmarks.speed.tables import markdown


def main(words: list[str] | None = None) -> int:
    """0 if every part that was asked for has its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="names of parts, or patterns such as 'step_*'; all by default")
    parser.add_argument("--short", action="store_true", help="tiny sizes: whether all runs, not how fast")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    parser.add_argument("--table", action="store_true", help="run nothing: print what is there as Markdown")
    parser.add_argument("--json", type=Path, help="the file of the figures; without it benchmarks/results/MACHINE.json")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lshfm-bench",
                        help="of pictures and stores, which are kept")  # fmt: skip
    asked = parser.parse_args(words)
    known = parts(short=asked.short)
    if asked.list:
        print("\n".join(known))
        return 0
    patterns = asked.parts or ["*"]
    if unknown := [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in known)]:
        parser.error(f"no part is called {unknown[0]}; --list names them")
    chosen = [name for name in known if any(fnmatch(name, pattern) for pattern in patterns)]
    ending = "-short" if asked.short else ""
    path = asked.json or FOLDER / f"{machine.title()}{ending}.json"
    record = Record(path, code=code_digest(), short=asked.short)
    if asked.table:
        print(markdown(record.parts))
        return 0 if record.parts else 1
    asked.folder.mkdir(parents=True, exist_ok=True)
    context = Context(asked.folder.absolute(), asked.short, record.parts)
    for name in chosen:
        _run(name, known[name], context, record, again=asked.again)
    _draw(record.parts, path.with_suffix(".svg"))
    print(markdown(record.parts))
    return 0 if all(record.has(name) for name in chosen) else 1


def _draw(parts: dict[str, Any], path: Path) -> None:
    try:
        growth(parts, path)
    except ImportError:
        print(f"{path} needs matplotlib: pip install 'lshfm[report]'", file=sys.stderr)


def _run(name: str, part, context: Context, record: Record, *, again: bool) -> None:  # type: ignore[no-untyped-def]
    if record.has(name) and not again:
        print(f"{name}: there already", file=sys.stderr)
        return
    begun, here = time.perf_counter(), machine.named()
    try:
        figures = part(context)
    except Exception as error:  # noqa: BLE001 - the other parts go on
        traceback.print_exc()
        figures = {"error": f"{type(error).__name__}: {error}"}
    record.keep(name, figures, here, time.perf_counter() - begun)
    print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
