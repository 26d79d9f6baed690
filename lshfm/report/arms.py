"""Arms: the runs of one setting, which differ in their seed alone; each with a title, a role and a colour."""

import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lshfm.report.facts import Run

TEACHER, ALONE, STAGE1, METHOD, OTHER = "teacher", "student alone", "stage 1", "mimicking", "other"
ORDER = (TEACHER, ALONE, OTHER, STAGE1, METHOD)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OF_A_SEED = {"seed"}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample; None for one value) of so many values."""

    mean: float
    deviation: float | None
    number: int


@dataclass(frozen=True)
class Arm:
    """Runs of the same settings with different seeds."""

    title: str
    role: str
    runs: tuple[Run, ...]
    colour: int | None = None  # of the page's; None: that of text, for the teacher
    dashed: bool = False
    differing: Mapping[str, Any] | None = None  # settings in which arms of the same role differ

    @property
    def finished(self) -> list[Run]:
        """The runs whose score is final."""
        return [run for run in self.runs if run.is_finished]

    def spread(self, value: Callable[[Run], Any]) -> Spread | None:
        """Of a number over the finished runs that have it; None if none has."""
        return spread_of(value(run) for run in self.finished)

    @property
    def score(self) -> Spread | None:
        """Of the leading metric."""
        return None if self.role == STAGE1 else self.spread(lambda run: run.score)


def spread_of(values: Iterable[Any]) -> Spread | None:
    """Mean and deviation of those that are numbers."""
    known = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not known:
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """The runs by what they are: teacher, student alone, other networks, stage 1, methods."""
    known = _with_evaluations([run for run in runs if run.command])
    teachers, students = {run.teacher for run in known}, {run.network for run in known if run.command == "mimic"}
    groups: dict[str, list[Run]] = {}
    for run in known:
        groups.setdefault(_key(run), []).append(run)
    separate = [part for group in groups.values() for part in _with_one_run_a_seed(group)]
    arms = [_arm(part, teachers, students) for part in separate]
    arms.sort(key=lambda arm: ORDER.index(arm.role))
    return _coloured(_told_apart(arms))


def _key(run: Run) -> str:
    """What runs that differ in their seed have in common: a teacher or a start of another seed has other digests."""
    if not run.settings:
        return json.dumps([run.command, run.name])
    same = {
        key: value
        for key, value in run.settings.items()
        if key not in _OF_A_SEED and (key.startswith("data.") or not _DIGEST.fullmatch(str(value)))
    }
    return json.dumps([run.command, run.teacher_network, same], sort_keys=True, default=str)


def _with_one_run_a_seed(group: list[Run]) -> list[list[Run]]:
    """The group itself, or a part for each of the runs that share a seed: they differ in their teacher or start."""
    by_seed: dict[int | None, list[Run]] = {}
    for run in group:
        by_seed.setdefault(run.seed, []).append(run)
    most = max(map(len, by_seed.values()))
    if most == 1:
        return [group]
    by_teacher: dict[Any, list[Run]] = {}
    for run in group:
        start = [run.settings.get(key) for key in ("teacher", "student.weights", "model.weights")]
        by_teacher.setdefault(json.dumps(start if len(by_seed) == 1 else run.teacher), []).append(run)
    parts = list(by_teacher.values())
    if any(len({run.seed for run in part}) < len(part) for part in parts):
        return [[run] for run in group]
    return parts


def _with_evaluations(runs: Sequence[Run]) -> list[Run]:
    """Evaluations of a run among these complete it with what it has not measured itself, as angles to a teacher."""
    by_name = {run.name: run for run in runs if run.command != "eval"}
    rest = []
    for run in runs:
        name = run.checkpoint
        if run.command != "eval":
            continue
        if name in by_name and by_name[name].is_finished:
            its = by_name[name]
            report = {**run.report, **its.report}
            by_name[name] = replace(its, report=report, arrays={**run.arrays, **its.arrays})
        else:
            rest.append(run)
    return [*by_name.values(), *rest]


def _arm(runs: list[Run], teachers: set[str | None], students: set[str]) -> Arm:
    first = runs[0]
    runs = sorted(runs, key=lambda run: (run.seed is None, run.seed or 0, run.name))
    if first.command == "mimic" and first.stage == "1":
        return Arm(f"{first.network} after stage 1, {first.loss}", STAGE1, tuple(runs), dashed=True)
    if first.command == "mimic":
        return Arm(f"{first.network} mimicking, {first.loss}", METHOD, tuple(runs))
    if first.command == "train" and any(run.name in teachers for run in runs):
        return Arm(f"teacher {first.network}", TEACHER, tuple(runs))
    if first.command == "train" and first.network in students:
        return Arm(f"{first.network} alone", ALONE, tuple(runs))
    title = first.network if first.command == "train" else f"{first.network or first.name}, evaluated"
    return Arm(title, OTHER, tuple(runs))


def _told_apart(arms: Sequence[Arm]) -> list[Arm]:
    """Arms of the same title get the settings in which they differ behind it."""
    result = []
    for arm in arms:
        alike = [other for other in arms if other.title == arm.title]
        differing = telling_settings([other.runs[0] for other in alike])
        own = {key: arm.runs[0].settings.get(key) for key in differing}
        words = [f"{name}={text_of(own[key])}" for key, name in _short(differing).items()]
        words = [word for word in words if not _DIGEST.fullmatch(word.partition("=")[2])]
        words += [f"teacher {arm.runs[0].teacher}"] if "teacher" in own and arm.runs[0].teacher else []
        words = words or ([arm.runs[0].name] if len(alike) > 1 else [])
        result.append(replace(arm, title=", ".join([arm.title, *words]), differing=own))
    return result


def differing_settings(runs: Sequence[Run]) -> list[str]:
    """The keys whose values are not the same in all of the runs, the seed aside."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    texts = {key: {json.dumps(run.settings.get(key), default=str, sort_keys=True) for run in runs} for key in keys}
    return [key for key, values in texts.items() if len(values) > 1 and key not in _OF_A_SEED]


def telling_settings(runs: Sequence[Run]) -> list[str]:
    """As `differing_settings`, without those that tell the same runs apart as one before, as a cosine of all epochs."""
    told: dict[tuple[int, ...], str] = {}
    for key in differing_settings(runs):
        texts = [json.dumps(run.settings.get(key), default=str, sort_keys=True) for run in runs]
        told.setdefault(tuple(texts.index(text) for text in texts), key)
    return list(told.values())


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Keys without their groups, as far as they stay different."""
    names = [key.rpartition(".")[2] for key in keys]
    return {key: name if names.count(name) == 1 else key for key, name in zip(keys, names, strict=True)}


def text_of(value: Any) -> str:
    """A setting's value: whole numbers without a fraction."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def drawn_of(arms: Sequence[Arm], most: int = 8) -> list[Arm]:
    """At most so many arms, for drawings that more would make unreadable: teacher, student alone, then the best."""

    def rank(arm: Arm) -> tuple[bool, float]:
        return arm.role not in (TEACHER, ALONE), -(arm.score.mean if arm.score else -1.0)

    kept = sorted(arms, key=rank)[:most]
    return [arm for arm in arms if arm in kept]


def _coloured(arms: Sequence[Arm]) -> list[Arm]:
    """A colour each; a stage 1 has that of the first method with its loss."""
    result, colours, after = [], {}, 0
    for arm in (arm for arm in arms if arm.role not in (TEACHER, STAGE1)):
        colours[arm.title] = after
        after += 1
    for arm in arms:
        if arm.role == STAGE1:
            first = arm.runs[0]
            like = [m for m in arms if m.role == METHOD and (m.runs[0].loss, m.runs[0].network) ==
                    (first.loss, first.network)]  # fmt: skip
            nearest = max(like, key=lambda m: _alike(first, m.runs[0]), default=None)
            colours[arm.title] = colours[nearest.title] if nearest else after
            after += not like
        result.append(arm if arm.role == TEACHER else replace(arm, colour=colours[arm.title]))
    return result


def _alike(first: Run, second: Run) -> int:
    """How many settings two runs share."""
    return sum(second.settings.get(key) == value for key, value in first.settings.items())


def reference_of(arms: Sequence[Arm]) -> Arm | None:
    """What others are compared with: the student alone, else the first method; None without another one."""
    scored = [arm for arm in arms if arm.role in (ALONE, METHOD, OTHER)]
    alone = [arm for arm in scored if arm.role == ALONE and arm.finished]
    return (alone or scored)[0] if len(scored) > 1 else None


def best_of(arms: Sequence[Arm]) -> Arm | None:
    """The highest score: a method's, without methods another network's, the teacher's only where there is no other."""
    scored = [arm for arm in arms if arm.score]
    learnt = [arm for arm in scored if arm.role == METHOD] or [arm for arm in scored if arm.role != TEACHER]
    return max(learnt or scored, key=lambda arm: arm.score.mean if arm.score else 0.0, default=None)
