"""lshfm report: runs side by side, as a page with pictures, or as tables for papers and scripts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lshfm.checks import require_writable
from lshfm.console import logger
from lshfm.errors import InputError, LshfmError, count, nearest, printable
from lshfm.files.write import write_text
from lshfm.report.arms import STAGE1, Arm, arms_of
from lshfm.report.blocks import Section, Table
from lshfm.report.facts import Run
from lshfm.report.formats import as_json, comma_separated, latex, markdown
from lshfm.report.tables_page import (
    as_plain,
    commands,
    comparison,
    costs,
    environment,
    runs_table,
    settings_table,
)
from lshfm.runs.facts import read_run, saved_settings
from lshfm.runs.finding import find_runs
from lshfm.tasks.examples import examples
from lshfm.tasks.task import Task, open_task
from lshfm.tasks.thumbnails import saved_dataset

FORMATS = ("html", "md", "csv", "json", "tex")
KEYS = ("out", "format", "output_dir", "title")
HELP = """usage: lshfm report RUN... [format=html|md|csv|json|tex] [out=FILE]

Shows runs side by side: scores with mean and standard deviation over seeds,
training curves, average precision or accuracy by class, precision and recall,
confusions, how students mimic, images with the largest gains and losses,
throughput, settings that differ, versions and commands.

RUN         a run folder, a sweep's, a folder with run folders below it, a glob
            in quotes, or a run's or sweep's name
format      html (the default): one page with pictures that needs no network,
            `pip install 'lshfm[report]'`; md: all tables; csv, json: the
            comparison for scripts; tex: the comparison for papers
out         the file to write; without it report.html, or the console for the
            others
title       the page's heading
output_dir  where names are looked for; without it outputs

lshfm report outputs                          every run there
lshfm report 'outputs/mimic/*_stage2' format=tex out=table.tex"""


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    words: tuple[str, ...]
    format: str
    out: Path | None
    title: str
    output_dir: Path


def run(words: Sequence[str]) -> None:
    """Write the report, or print the page of help. Raises InputError for words that mean nothing here."""
    if set(words) & {"-h", "--help"}:
        print(HELP)
        return
    asked = parse(words)
    if asked.out:
        require_writable(asked.out.parent, "out")
    render = _renderer(asked.format)
    runs = [read_run(found.path, found.note) for found in find_runs(asked.words, asked.output_dir)]
    if not any(run.command for run in runs):
        listed = "\n".join(f"  {printable(run.folder)}: {'; '.join(run.missing)}" for run in runs)
        raise InputError(f"nothing to report on:\n{listed}")
    text = render(asked, runs)
    if asked.out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    write_text(asked.out, text)
    logger.info("%s: %s, %.1f MB", asked.out, count(len(runs), "run"), len(text.encode()) / 1e6)


def parse(words: Sequence[str]) -> Asked:
    """The words as what they ask for. Raises InputError."""
    keys: dict[str, str] = {}
    runs = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and not Path(word).expanduser().exists() and "/" not in name:
            if name not in KEYS:
                raise InputError(f"{printable(name)}=: no such key{nearest(name, KEYS)}. There are: {', '.join(KEYS)}")
            keys[name] = value
        elif word.startswith("-"):
            raise InputError(f"{printable(word)}: lshfm report has no such flag (lshfm report --help)")
        else:
            runs.append(word)
    if not runs:
        raise InputError("lshfm report takes runs: folders, globs in quotes or names, as: lshfm report outputs/mimic")
    return _checked(tuple(runs), keys)


def _checked(runs: tuple[str, ...], keys: dict[str, str]) -> Asked:
    out = Path(keys["out"]).expanduser() if keys.get("out") else None
    ending = out.suffix.removeprefix(".") if out else ""
    form = keys.get("format") or (ending if ending in FORMATS else "html")
    if form not in FORMATS:
        raise InputError(f"format={printable(form)}: must be one of {', '.join(FORMATS)}{nearest(form, FORMATS)}")
    if out and out.is_dir():
        raise InputError(f"out={out} is a folder: name a file in it")
    out = Path("report.html") if out is None and form == "html" else out
    return Asked(runs, form, out, keys.get("title") or "Runs side by side", Path(keys.get("output_dir") or "outputs"))


def _renderer(form: str) -> Callable[[Asked, Sequence[Run]], str]:
    """What makes the text. Raises InputError where a library is missing, before anything is read."""
    if form != "html":
        return {"md": _markdown, "csv": _csv, "json": _json, "tex": _latex}[form]
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the page needs {error.name} ({error}): pip install 'lshfm[report]'; format=md, csv, json, tex do not"
        ) from error
    return _html


class _Report:
    """The runs, in arms, with the task of the data set that most are of."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        names = [run.dataset for run in runs if run.command]
        self.dataset = max(dict.fromkeys(names), key=names.count)
        self.arms = arms_of([run for run in runs if run.dataset == self.dataset])
        self.notes = list(self._notes())
        self.task = self._task()

    def _notes(self) -> Iterator[str]:
        others = [run for run in self.runs if run.command and run.dataset != self.dataset]
        if others:
            names = ", ".join(run.name for run in others)
            yield f"This report compares the runs on {self.dataset}; listed, but not compared: {names}."
        for run in self.runs:
            if not run.command:
                yield f"{run.folder}: {'; '.join(run.missing)}."
        failed = [run for run in self.runs if run.command and not run.is_finished]
        if failed:
            words = ", ".join(f"{run.name} ({run.state})" for run in failed)
            yield f"Not finished, and left out of means: {words}."
        for split in _splits_of_other_data(self.arms):
            yield f"The runs were not all measured on the same images or labels of {split}: compare with care."

    def _task(self) -> Task | None:
        """The task, from the settings of the first run that has some; what is wrong becomes a note."""
        why = "no run has settings"
        for run in (run for arm in self.arms for run in arm.runs):
            settings = saved_settings(Path(run.folder))
            if not settings:
                continue
            try:
                self.saved = saved_dataset(settings)
                return open_task(self.saved)
            except (LshfmError, TypeError, ValueError, KeyError, AttributeError) as error:
                why = str(error)
        self.notes.append(f"What is special to the runs' task is left out: {why}.")
        return None

    @property
    def comparison(self) -> Section:
        """The table of the arms."""
        return comparison(self.arms, self.definition)

    def examples(self) -> Section | None:
        """The images that tell the methods apart; which of their pictures are missing becomes a note."""
        if self.task is None:
            return None
        section, why = examples(self.task, self.saved, self.arms)
        self.notes += [f"Some pictures are missing: {why}"] if why else []
        return section

    @property
    def definition(self) -> str:
        """What the leading metric is, in words."""
        reports = [run.report.get("metric") for arm in self.arms for run in arm.runs]
        metric = next((name for name in reports if self.task and name in self.task.metrics), None)
        return self.task.definition(metric) if self.task and metric else ""


def _splits_of_other_data(arms: Sequence[Arm]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for run in (run for arm in arms for run in arm.runs):
        if digest := run.settings.get("data.eval"):
            seen.setdefault(run.split or "the test split", set()).add(str(digest))
    return [split for split, digests in seen.items() if len(digests) > 1]


def _sections(report: _Report, pictures: Sequence[Section | None] = ()) -> list[Section]:
    found = [
        report.comparison, *pictures, costs(report.arms), runs_table(report.runs), settings_table(report.arms),
        environment(report.runs), commands(report.runs),
    ]  # fmt: skip
    return [section for section in found if section]


def _html(asked: Asked, runs: Sequence[Run]) -> str:
    from lshfm.report import curves, mimicry_page, sweep_page
    from lshfm.report.page import page

    report = _Report(runs)
    measured = [arm for arm in report.arms if arm.role != STAGE1]  # after stage 1 the outputs are untrained
    own = report.task.sections(measured) if report.task else []
    pictures = [
        sweep_page.section(report.arms), *own, mimicry_page.section(report.arms), report.examples(),
        curves.section(report.arms),
    ]  # fmt: skip
    return page(asked.title, _sections(report, pictures), report.notes)


def _markdown(asked: Asked, runs: Sequence[Run]) -> str:
    report = _Report(runs)
    return markdown(asked.title, _sections(report), report.notes)


def _csv(_asked: Asked, runs: Sequence[Run]) -> str:
    return comma_separated(as_plain(_Report(runs).arms))


def _json(_asked: Asked, runs: Sequence[Run]) -> str:
    report = _Report(runs)
    return as_json(as_plain(report.arms), [_plain(run) for run in runs], report.notes)


def _plain(run: Run) -> dict[str, Any]:
    names = ("name", "folder", "command", "stage", "state", "network", "loss", "dataset", "seed", "metric", "score")
    return {name: getattr(run, name) for name in (*names, "epoch", "epochs", "published", "ending", "missing", "cost")}


def _latex(_asked: Asked, runs: Sequence[Run]) -> str:
    section = _Report(runs).comparison
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    return latex(table, section.intro)
