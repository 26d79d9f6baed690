"""A report's tables: the comparison, the runs, what they took, how their settings differ, where and how they ran."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from lshfm.report.arms import METHOD, STAGE1, TEACHER, Arm, Spread, differing_settings, reference_of, spread_of, text_of
from lshfm.report.blocks import Block, Cell, Column, Section, Table, Text, number, spread_cell
from lshfm.report.facts import FAILED, FINISHED, Run

MIMICRY = {"angle": ("angle", 2), "relative_length": ("length", 3), "hash_agreement": ("hash agreement", 2),
           "hash_agreement_own_medians": ("own medians", 2)}  # fmt: skip
COSTS = {
    "images_per_second": ("images/s", 1), "training_seconds": ("training, s", 1),
    "evaluation_seconds": ("evaluation, s", 1), "waiting": ("waiting, %", 1), "host_MiB": ("memory, MiB", 0),
    "gpu_MiB": ("GPU memory, MiB", 0),
}  # fmt: skip


def comparison(arms: Sequence[Arm], definition: str) -> Section:
    """One row for each arm: score over the seeds, what is published, and the measures beside the teacher."""
    reference = reference_of(arms)
    metric = metric_of(arms)
    columns = [
        Column("network", is_number=False), Column(metric or "score"),
        Column("averaged", hint="weights of last epochs"),
        *([Column("difference", hint=f"to {reference.title}")] if reference else []),
        Column("published", hint="of the same recipe"), *(Column(title) for title, _ in MIMICRY.values()),
        Column("seeds"), Column("role", is_number=False),
    ]  # fmt: skip
    rows: list[Sequence[Cell]] = [_row(arm, arms, reference) for arm in arms]
    if not any(arm.role == TEACHER for arm in arms) and (taught := _teacher_row(arms, reference)):
        rows.insert(0, taught)
    rows, columns = _without_empty(rows, columns)
    blocks: list[Block] = [Table("comparison, mean ± standard deviation over seeds", columns, rows)]
    return Section("comparison", "Comparison", blocks, _words(definition, metric, arms))


def metric_of(arms: Sequence[Arm]) -> str:
    """What the leading score is called, as most arms have it."""
    names = [run.metric for arm in arms if arm.role != STAGE1 for run in arm.runs if run.metric]
    return max(names, key=names.count, default="")


def _words(definition: str, metric: str, arms: Sequence[Arm]) -> str:
    splits = sorted({f"{run.dataset} {run.split}" for arm in arms for run in arm.finished if run.split})
    what = f"{metric}: {definition}." if definition else f"{metric}." if metric else ""
    where = f" Measured on {', '.join(splits)}." if splits else ""
    beside = (
        " Angle (degrees), length (student's / teacher's) and hash agreement (% of 2048 bits that are equal) compare a "
        "student's features with its teacher's."
    )
    return f"{what}{where}{beside if any(run.mimicry for arm in arms for run in arm.runs) else ''}".strip()


def _row(arm: Arm, arms: Sequence[Arm], reference: Arm | None) -> list[Cell]:
    others = [run for run in arm.runs if not run.is_finished]
    hint = f"{len(others)} of {len(arm.runs)} not finished" if others else ""
    seeds = ", ".join(str(run.seed) for run in arm.runs if run.seed is not None)
    row = [Cell(arm.title, arm.title, arm.colour, hint), spread_cell(arm.score), spread_cell(averaged_of(arm))]
    if reference:
        row.append(_difference(arm, reference))
    row.append(number(published_of(arm, arms)))
    row += [spread_cell(arm.spread(_mimicry(key)), digits) for key, (_, digits) in MIMICRY.items()]
    return [*row, Cell(seeds, float(len(arm.runs))), Cell(arm.role, arm.role)]


def averaged_of(arm: Arm) -> Spread | None:
    """The score of the mean of the last epochs' weights."""
    return arm.spread(lambda run: run.averaged)


def _difference(arm: Arm, reference: Arm) -> Cell:
    if arm == reference or arm.score is None or reference.score is None:
        return Cell("–")
    gain = arm.score.mean - reference.score.mean
    return Cell(f"{gain:+.2f}", gain)


def published_of(arm: Arm, arms: Sequence[Arm]) -> float | None:
    """The published score of the recipe that an arm's runs are of; a teacher's may be told by its students'."""
    if arm.role == TEACHER and not any(run.published for run in arm.runs):
        names = {run.name for run in arm.runs}
        told = [run.report.get("published_teacher") for a in arms for run in a.runs if run.teacher in names]
        return next((value for value in told if value), None)
    return next((run.published for run in arm.runs if run.published is not None), None)


def _mimicry(key: str) -> Callable[[Run], Any]:
    return lambda run: run.mimicry.get(key)


def _teacher_row(arms: Sequence[Arm], reference: Arm | None) -> list[Cell] | None:
    """The teacher as its students have measured it, where its own run is not in the report."""
    runs = [run for arm in arms if arm.role == METHOD for run in arm.finished]
    scores = {run.teacher: value for run in runs for key, value in run.mimicry.items() if key.startswith("teacher_")}
    spread = spread_of(scores.values())
    if spread is None:
        return None
    names = sorted({run.teacher_network or run.teacher or "" for run in runs} - {""})
    title = f"teacher {', '.join(names)}".strip()
    row = [Cell(title, title, None, "as its students measured it"), spread_cell(spread), Cell("–")]
    if reference and reference.score:
        row.append(Cell(f"{spread.mean - reference.score.mean:+.2f}", spread.mean - reference.score.mean))
    elif reference:
        row.append(Cell("–"))
    told = (run.report.get("published_teacher") for run in runs)
    row.append(number(next((v for v in told if v), None)))
    return [*row, *(Cell("–") for _ in MIMICRY), Cell("–"), Cell(TEACHER, TEACHER)]


def _without_empty(
    rows: Sequence[Sequence[Cell]], columns: Sequence[Column]
) -> tuple[list[Sequence[Cell]], list[Column]]:
    """The table without columns in which every row has a dash."""
    used = [i for i in range(len(columns)) if i < 2 or any(row[i].text not in ("–", "") for row in rows)]
    return [[row[i] for i in used] for row in rows], [columns[i] for i in used]


def runs_table(runs: Sequence[Run]) -> Section:
    """Every run that was asked for, finished or not, and what of it could not be read."""
    columns = [
        Column("run", is_number=False), Column("state", is_number=False), Column("epochs"), Column("score"),
        Column("missing or wrong", is_number=False),
    ]  # fmt: skip
    rows = [
        [
            Cell(run.name, run.name, hint=run.folder), Cell(run.state, run.state), _epochs(run),
            Cell("–") if run.score is None else Cell(f"{run.score:.2f}", run.score, hint=run.metric),
            Cell("; ".join([*([run.ending] if run.state == FAILED and run.ending else []), *run.missing]) or "–"),
        ]
        for run in runs
    ]  # fmt: skip
    unfinished = sum(run.state != FINISHED for run in runs)
    intro = (
        f"{unfinished} of {len(runs)} did not finish; their numbers are those of their last epoch, and are left out "
    )
    return Section("runs", "Runs", [Table("all runs", columns, rows)], f"{intro}of means." if unfinished else "")


def _epochs(run: Run) -> Cell:
    if run.epoch is None:
        return Cell("–")
    return Cell(f"{run.epoch}/{run.epochs}" if run.epochs else str(run.epoch), float(run.epoch))


def costs(arms: Sequence[Arm]) -> Section | None:
    """Throughput, seconds, memory and waiting, a row an arm."""
    if not any(run.cost for arm in arms for run in arm.runs):
        return None
    columns = [Column("network", is_number=False), *(Column(title) for title, _ in COSTS.values()),
               Column("device", is_number=False)]  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for arm in arms:
        found = [_cost_of(arm, key, digits) for key, (_, digits) in COSTS.items()]
        devices = ", ".join(dict.fromkeys(run.environment.get("device", "") for run in arm.runs))
        rows.append([Cell(arm.title, arm.title, arm.colour), *found, Cell(devices or "–")])
    rows, columns = _without_empty(rows, columns)
    intro = "Images a second while training, over all ranks; waiting: the fastest rank's for the slowest, of all time."
    return Section("costs", "Throughput and waiting", [Table("what the runs took", columns, rows)], intro)


def _cost_of(arm: Arm, key: str, digits: int) -> Cell:
    spread: Spread | None = spread_of(run.cost.get(key) for run in arm.runs)
    return spread_cell(spread, digits)


def settings_table(arms: Sequence[Arm]) -> Section | None:
    """The settings that can change numbers and are not the same in all arms of a command and stage, a row a key."""
    blocks: list[Block] = []
    for kind in dict.fromkeys((arm.runs[0].command, arm.runs[0].stage) for arm in arms):
        alike = [arm for arm in arms if (arm.runs[0].command, arm.runs[0].stage) == kind and arm.runs[0].settings]
        keys = [key for key in differing_settings([arm.runs[0] for arm in alike]) if not _is_of_a_seed(key, alike)]
        if keys:
            columns = [Column("key", is_number=False), *(Column(arm.title, is_number=False) for arm in alike)]
            rows = [[Cell(key, key), *(Cell(_value(arm.runs[0].settings.get(key))) for arm in alike)] for key in keys]
            stage = f" stage={kind[1]}" if kind[1] else ""
            blocks.append(Table(f"lshfm {kind[0]}{stage}", columns, rows))
    intro = "Settings that can change numbers, where they differ beside the seed; of files the first digits of SHA-256."
    return Section("settings", "Settings that differ", blocks, intro) if blocks else None


def _is_of_a_seed(key: str, arms: Sequence[Arm]) -> bool:
    """Whether a setting differs between an arm's own runs: it comes with the seed, as a teacher of the same does."""
    return any(len({str(run.settings.get(key)) for run in arm.runs}) > 1 for arm in arms)


def _value(value: Any) -> str:
    text = "–" if value is None else text_of(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def environment(runs: Sequence[Run]) -> Section | None:
    """Versions and machines; one column for all runs that have the same."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        if run.environment:
            groups.setdefault(tuple(run.environment.items()), []).append(run.name)
    if not groups:
        return None
    keys = list(dict.fromkeys(key for group in groups for key, _ in group))
    columns = [
        Column("version", is_number=False),
        *(Column(_named(names), is_number=False) for names in groups.values()),
    ]
    rows = [[Cell(key, key), *(Cell(dict(group).get(key, "–")) for group in groups)] for key in keys]
    return Section("environment", "Environment", [Table("versions and machine", columns, rows)])


def _named(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} runs" if len(names) > 2 else ", ".join(names)


def commands(runs: Sequence[Run]) -> Section | None:
    """The command line of each run; both stages of a command have the same."""
    made: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        if run.command_line:
            made.setdefault(run.command_line, []).append(run.name)
    lines = [Text(shlex.join(words), is_code=True, title=", ".join(names)) for words, names in made.items()]
    return Section("commands", "Commands", lines, "What made each run, as typed.") if lines else None


def as_plain(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The comparison as plain values: a mapping an arm."""
    result = []
    for arm in arms:
        score, averaged = arm.score, averaged_of(arm)
        entry: dict[str, Any] = {
            "network": arm.title, "role": arm.role, "seeds": [run.seed for run in arm.runs],
            "finished": len(arm.finished), "metric": metric_of([arm]) or None,
            "mean": score and score.mean, "std": score and score.deviation, "averaged": averaged and averaged.mean,
            "averaged_std": averaged and averaged.deviation, "published": published_of(arm, arms),
        }  # fmt: skip
        for key in MIMICRY:
            spread = arm.spread(_mimicry(key))
            entry |= {key: spread and spread.mean, f"{key}_std": spread and spread.deviation}
        result.append(entry)
    return result
