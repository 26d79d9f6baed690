"""Reports a run while it trains: progress bar, log, recorded lines; and checks that losses are finite."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import torch

from lshfm.console import Bar, Columns, logger, shown, speed, speed_figure
from lshfm.engine.lines import EpochLine, Line, Lines, StepLine, Waiting
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed
from lshfm.ranks.group import PeerLost, all_gather, is_main, mean, num_ranks, rank

SECONDS_WORTH_A_LINE = 60.0  # of the time to go


class Journal:
    """Collects losses on the device and copies them to the host once a log line, so that no step waits for a copy.

    Losses are means over all ranks, which have as many images of a batch each; rank 0 writes to `lines`. steps: of an
    epoch. every: steps between lines. name_samples: maps sample numbers to names for a message.
    """

    def __init__(
        self,
        lines: Lines,
        *,
        epochs: int,
        steps: int,
        every: int,
        name_samples: Callable[[Sequence[int]], list[str]],
    ) -> None:
        self.lines, self.epochs, self.steps = lines, epochs, steps
        self.every, self.name_samples = every, name_samples
        self._pending: list[tuple[int, int, torch.Tensor, dict[str, torch.Tensor], float]] = []
        self._rows: list[list[float]] = []  # losses since the last line that are on the host already
        self._names: list[str] = []
        self._images_timed = 0  # of this rank since the last line
        self._means: dict[str, float] = {}
        self._rate: float | None = None  # images a second of all ranks
        self._waiting: tuple[float, int] | None = None  # percent of the time, for which rank
        self._score = ""
        self._columns = Columns()
        self._epochs_before = 0.0  # that this process has not done
        self._began = self._epoch_began = monotonic()
        self._bar = Bar("", epochs * steps)  # of the whole run, so that the time to go is the run's

    def resume(self, state: State, saved: dict[str, Any]) -> None:
        """Go on at `state`: drop the lines of later steps, which will be done again. saved: state_dict's at `state`."""
        self._bar = Bar("", self.epochs * self.steps, done=state.epoch * self.steps + state.step)
        self._epochs_before = state.epoch + state.step / self.steps
        self._began = self._epoch_began = monotonic()
        self._names, self._rows = list(saved["names"]), [list(row) for row in saved["rows"]]
        if is_main():  # the saved rows may have been written in a later line since
            self.lines.forget_after(state.epoch, state.step - bool(self._rows))

    def state_dict(self) -> dict[str, Any]:
        """Names and values of the losses that no line shows yet, as plain lists; after `settle`."""
        assert not self._pending
        return {"names": self._names, "rows": self._rows}

    def step(self, state: State, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None:
        """The losses of the step that `state` has just done; every so many steps a line is written."""
        self._images_timed += len(index)
        self._pending.append((state.epoch, state.step, index, losses, lr))
        if state.step % self.every == 0:
            self.flush(state)
        elif not self._means:  # the first losses are shown at once
            self.settle()
            self._means = self._mean_losses()
        text = _joined(
            f"epoch {state.epoch + 1}/{self.epochs}", self._losses(), f"lr {lr:.3g}", self._speed(), self._score
        )
        self._bar.update(state.epoch * self.steps + state.step, text)
        self._bar.__enter__()
        if state.step == self.steps:
            self._bar.__exit__()  # evaluation has a bar of its own

    def settle(self) -> None:
        """Copy the pending losses to the host and check them, at all ranks together.

        Raises RunFailed if some are not finite, naming the first such step, its epoch and its samples.
        """
        if not self._pending:
            return
        self._names = list(self._pending[0][3])
        losses = torch.stack([torch.stack([entry[3][n] for n in self._names]) for entry in self._pending]).cpu()
        self._refuse_non_finite(losses.isfinite().logical_not(), losses)
        self._rows += mean(losses).tolist()
        self._pending = []

    def flush(self, state: State) -> None:
        """Settle the losses, and write a line on the steps since the last one."""
        lr = self._pending[-1][4] if self._pending else state.lr
        self.settle()
        if not self._rows:
            return
        self._means = self._mean_losses()
        self._write(StepLine(state.epoch + 1, state.step, lr, self._means, *self._measure_speed(state)))
        self._rows, self._images_timed = [], 0

    def _mean_losses(self) -> dict[str, float]:
        """Of the steps since the last line."""
        means = torch.tensor(self._rows, dtype=torch.float64).mean(0).tolist()
        return dict(zip(self._names, means, strict=True))

    def _measure_speed(self, state: State) -> tuple[float | None, Waiting | None]:
        """Images a second of all ranks, and how long the fastest rank waited for the slowest since the last line."""
        if not self._images_timed:
            return None, None  # all steps of this line were done before the run was stopped
        state.clock.lap()  # include the work that a GPU still had queued when its losses were copied
        times = all_gather(state.clock.take(), in_step=True)
        seconds, busy = times[0][0], [busy_seconds for _, busy_seconds in times]
        rate = self._images_timed * num_ranks() / max(seconds, 1e-9)
        self._rate = rate
        if num_ranks() == 1:
            return round(rate, 2), None
        slowest, wait = busy.index(max(busy)), max(busy) - min(busy)
        self._waiting = 100 * wait / max(seconds, 1e-9), slowest
        return round(rate, 2), Waiting(round(wait, 3), slowest)

    def epoch(self, state: State, evaluation: Evaluation | None) -> None:
        """The end of an epoch, with its evaluation if it has one: a line of the log and of the record."""
        self._log_trained(state) if evaluation is None else self._log_evaluated(state, evaluation)
        self._say_time_to_go(state)
        seconds = round(state.seconds + state.evaluation_seconds, 3)
        if evaluation is None:
            self._write(EpochLine(state.epoch, seconds=seconds))
        else:
            measured = (evaluation.name, evaluation.score, evaluation.beside, evaluation.loss)
            self._write(EpochLine(state.epoch, *measured, seconds))

    def _log_trained(self, state: State) -> None:
        plain = _joined(f"epoch {state.epoch}/{self.epochs}", self._losses(), self._speed())
        self._columns.log(self._trained(state) | self._cost(state), plain)

    def _trained(self, state: State) -> dict[str, str]:
        """Epoch, losses and learning rate: columns of an epoch's row on a terminal."""
        losses = {name: f"{value:.4f}" for name, value in self._means.items()}
        return {"epoch": f"{state.epoch}/{self.epochs}", **losses, "lr": f"{state.lr:.3g}"}

    def _log_evaluated(self, state: State, evaluation: Evaluation) -> None:
        score, best, epoch = shown(evaluation.score), state.best, f"{state.epoch}/{self.epochs}"
        at_best = shown(best["score"]) if best else "-"
        self._score = f"{evaluation.name} {score}" + (f" (best {at_best})" if best else "")
        line = f"{evaluation.name} {score}" + (f" (best {at_best}, epoch {best['epoch']})" if best else "")
        beside = {name: shown(value) for name, value in evaluation.beside.items() if name not in evaluation.unchanging}
        others = (f"{name} {value}" for name, value in beside.items())
        plain = _joined(f"epoch {epoch}", self._losses(), self._speed(), line, *others)
        cells = self._trained(state) | {evaluation.name: score, "best": at_best} | beside
        self._columns.log(cells | self._cost(state), plain)

    def _cost(self, state: State) -> dict[str, str]:
        """What the epoch took, evaluation included: columns of its row on a terminal."""
        now, device = monotonic(), next(state.model.parameters()).device
        seconds, self._epoch_began = now - self._epoch_began, now
        cells = {"images/s": "-" if self._rate is None else speed_figure(self._rate)}
        if self._waiting:
            cells["waiting"] = f"{self._waiting[0]:.0f} %"
        cells["seconds"] = f"{seconds:.1f}"
        if device.type == "cuda":
            cells["GPU GiB"] = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}"
        return cells

    def _say_time_to_go(self, state: State) -> None:
        """After the first epoch of this process, where it is worth a line."""
        done, others = state.epoch - self._epochs_before, self.epochs - state.epoch
        if 0 < done <= 1 and (left := (monotonic() - self._began) / done * others) >= SECONDS_WORTH_A_LINE:
            logger.info("about %s to go until the end of epoch %d", timedelta(seconds=round(left)), self.epochs)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._bar.__exit__()

    def _losses(self) -> str:
        return "  ".join(f"{name} {value:.4f}" for name, value in self._means.items())

    def _speed(self) -> str:
        if self._rate is None:
            return ""
        waiting = ", {:.0f} % waiting for rank {}".format(*self._waiting) if self._waiting else ""
        return speed(self._rate) + waiting

    def _write(self, line: Line) -> None:
        if is_main():
            self.lines.write(line)

    def _refuse_non_finite(self, bad: torch.Tensor, losses: torch.Tensor) -> None:
        """Raise RunFailed at the rank with the first loss that is not finite, PeerLost at the others.

        bad, losses: (steps, names), of this rank.
        """
        rows = bad.any(1).nonzero().flatten().tolist()
        firsts = [(first[0], r) for r, first in enumerate(all_gather(rows[:1], in_step=True)) if first]
        if not firsts:
            return
        row, culprit = min(firsts)  # a step later, averaged gradients have spoilt all ranks
        if culprit != rank():
            raise PeerLost("another rank's loss is not finite")
        epoch, step, index, _, lr = self._pending[row]
        values = zip(self._names, losses[row].tolist(), bad[row], strict=True)
        named = ", ".join(f"{name} = {value}" for name, value, is_bad in values if is_bad)
        raise RunFailed(
            f"the loss is not finite: {named} at epoch {epoch + 1}, step {step}, lr {lr:.3g}.\n"
            f"Samples of that step: {', '.join(self.name_samples(index.tolist()))}.\n"
            "Try a lower lr, clip_grad=1 or a warm-up (schedule.warmup=1); earlier checkpoints are intact."
        )


def _joined(*parts: str) -> str:
    return "  ".join(filter(None, parts))
