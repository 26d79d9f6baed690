"""Ranges that a search chooses from, in the grammar of Hydra's sweepers: interval, range, choice, tag(log, ...)."""

import re
from dataclasses import dataclass, replace

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from lshfm.config.keys import PATHS
from lshfm.errors import InputError


@dataclass(frozen=True)
class Span:
    """Numbers to choose from: all between two, or those a step apart; log: by their logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """Values to choose from, as typed."""

    values: tuple[str, ...]


def range_of(name: str, parsed: Override) -> Span | Choice:
    """A sweep of Hydra's grammar as a search takes it. Raises InputError."""
    sweep = parsed.value()
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        whole = isinstance(low, int) and isinstance(high, int)
        span = Span(float(low or 0), float(high or 0), None, "log" in sweep.tags, whole)
    elif isinstance(sweep, RangeSweep):
        low, high, step = (float(bound or 0) for bound in (sweep.start, sweep.stop, sweep.step))
        whole = all(isinstance(bound, int) for bound in (sweep.start, sweep.stop, sweep.step))
        span = Span(low, _last_of(low, high, step), step, "log" in sweep.tags, whole)
    else:
        assert isinstance(sweep, ChoiceSweep)
        return Choice(tuple(plain(name, str(value)) for value in parsed.sweep_string_iterator()))
    if not span.low <= span.high or (span.log and span.low <= 0):
        raise InputError(f"{name}: no range to choose from: {parsed.input_line}")
    return replace(span, step=None) if span.log else span


def _last_of(low: float, stop: float, step: float) -> float:
    """The last number of range(low, stop, step), which `stop` itself is not."""
    count = int((stop - low) / step + 1e-9) if step > 0 else 0
    last = low + count * step
    return last - step if last >= stop - 1e-12 else last


def plain(name: str, value: str) -> str:
    """A value as people type it: without quotes where the key gives it some anyway."""
    quoted = re.fullmatch(r"'([\w./-]+)'", value)
    return quoted[1] if quoted and (name in ("stage", "teacher", "name") or name in PATHS) else value
