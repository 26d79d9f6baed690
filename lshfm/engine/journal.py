"""What a run says while it trains: console, metrics.jsonl, and the check that losses are finite."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lshfm.console import Bar, logger, shown
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed
from lshfm.files.write import append_line, write_text
from lshfm.ranks.group import PeerLost, all_gather, is_main, mean, num_ranks, rank


class Journal:
    """Collects losses on the device and brings them over once a log line: no transfer in a step.

    Losses are means over all ranks, `batch_size` is that of all; rank 0 writes. steps: of an epoch. every: steps
    between lines. name_samples: what to call samples in a message, by their numbers.
    """

    def __init__(
        self,
        path: Path,
        *,
        epochs: int,
        steps: int,
        batch_size: int,
        every: int,
        name_samples: Callable[[Sequence[int]], list[str]],
    ) -> None:
        self.path, self.epochs, self.steps = path, epochs, steps
        self.batch_size, self.every, self.name_samples = batch_size, every, name_samples
        self._pending: list[tuple[int, int, torch.Tensor, dict[str, torch.Tensor], float]] = []
        self._rows: list[list[float]] = []  # losses since the last line that were brought over
        self._names: list[str] = []
        self._steps_timed = 0  # since the last line
        self._means: dict[str, float] = {}
        self._speed = ""
        self._score = ""
        self._bar = Bar("", epochs * steps)  # of the whole run, so that the time to go is the run's

    def resume(self, state: State, saved: dict[str, Any]) -> None:
        """Forget what was written of steps that will be done again; `saved` is what state_dict gave at `state`."""
        self._bar = Bar("", self.epochs * self.steps, done=state.epoch * self.steps + state.step)
        self._names, self._rows = list(saved["names"]), [list(row) for row in saved["rows"]]
        if self.path.exists() and is_main():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            last = state.epoch, state.step - bool(self._rows)  # losses that no line showed then may be in one by now
            kept = [line for line in lines if _position(line) <= last]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def state_dict(self) -> dict[str, Any]:
        """The losses that no line shows yet, once settled."""
        assert not self._pending
        return {"names": self._names, "rows": self._rows}

    def step(self, state: State, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None:
        """Take note of the step that `state` has just done; every so many steps write a line."""
        if not self._steps_timed:
            self._bar.__enter__()
        self._steps_timed += 1
        self._pending.append((state.epoch, state.step, index, losses, lr))
        if state.step % self.every == 0:
            self.flush(state)
        text = f"epoch {state.epoch + 1}/{self.epochs}  {self._line(lr)}{self._score}"
        self._bar.update(state.epoch * self.steps + state.step, text)
        if state.step == self.steps:
            self._bar.__exit__()  # evaluation has a bar of its own

    def settle(self) -> None:
        """Bring the pending losses over and check them, at all ranks together.

        Raises RunFailed if some are not finite, naming epoch, step and samples where that began.
        """
        if not self._pending:
            return
        self._names = list(self._pending[0][3])
        losses = torch.stack([torch.stack([entry[3][n] for n in self._names]) for entry in self._pending]).cpu()
        self._refuse_non_finite(losses.isfinite().logical_not(), losses)
        self._rows += mean(losses).tolist()
        self._pending = []

    def flush(self, state: State) -> None:
        """Settle, and write a line on the steps since the last one."""
        lr = self._pending[-1][4] if self._pending else state.optimizer.param_groups[0]["lr"]
        self.settle()
        if not self._rows:
            return
        means = torch.tensor(self._rows, dtype=torch.float64).mean(0).tolist()
        self._means = dict(zip(self._names, means, strict=True))
        entry = {"epoch": state.epoch + 1, "step": state.step, "lr": lr, **self._means}
        self._write(entry | self._measure_speed(state))
        self._rows, self._steps_timed = [], 0

    def _measure_speed(self, state: State) -> dict[str, Any]:
        """Images a second of all ranks, and how long the first one to be done with a step waits for the last one."""
        if not self._steps_timed:
            return {}  # they were done before the run was stopped
        state.clock.lap()  # what a GPU had still to do when its losses were asked for
        times = all_gather(state.clock.take())
        seconds, busy = times[0][0], [own for _, own in times]
        rate = self._steps_timed * self.batch_size / max(seconds, 1e-9)
        self._speed = f"{rate:.0f} images/s"
        measured: dict[str, Any] = {"images_per_second": round(rate, 2)}
        if num_ranks() > 1:
            slowest, wait = busy.index(max(busy)), max(busy) - min(busy)
            self._speed += f", {100 * wait / max(seconds, 1e-9):.0f} % waiting for rank {slowest}"
            measured["waiting"] = {"seconds": round(wait, 3), "for_rank": slowest}
        return measured

    def epoch(self, state: State, evaluation: Evaluation) -> None:
        """Say how an epoch ended."""
        best = state.best
        self._score = f"  {evaluation.name} {shown(evaluation.score)}"
        best_so_far = f" (best {shown(best['score'])}, epoch {best['epoch']})" if best else ""
        beside = "".join(f"  {name} {shown(value)}" for name, value in evaluation.beside.items())
        logger.info("epoch %d/%d  %s%s%s%s", state.epoch, self.epochs, self._line(), self._score, best_so_far, beside)
        self._score += best_so_far.partition(",")[0] + ")" * bool(best_so_far)
        self._write({"epoch": state.epoch, "metric": evaluation.name, "score": evaluation.score} | evaluation.beside)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._bar.__exit__()

    def _line(self, lr: float | None = None) -> str:
        losses = "  ".join(f"{name} {value:.4f}" for name, value in self._means.items())
        rate = "" if lr is None else f"  lr {lr:.3g}"
        return f"{losses}{rate}  {self._speed}"

    def _write(self, entry: dict[str, Any]) -> None:
        if is_main():
            append_line(self.path, json.dumps(entry, allow_nan=False))

    def _refuse_non_finite(self, bad: torch.Tensor, losses: torch.Tensor) -> None:
        """bad, losses: (steps, names), of this rank."""
        rows = bad.any(1).nonzero().flatten().tolist()
        firsts = [(found[0], r) for r, found in enumerate(all_gather(rows[:1])) if found]
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
            "Try a lower lr or a warm-up (schedule.warmup=1); earlier checkpoints are intact."
        )


def _position(line: str) -> tuple[float, float]:
    """Epochs done and steps of the next one when a line was written; infinite for half a line of a killed run."""
    try:
        entry = json.loads(line)
        return (float(entry["epoch"]) - 1, float(entry["step"])) if "step" in entry else (float(entry["epoch"]), 0.0)
    except (ValueError, KeyError, TypeError):
        return float("inf"), 0.0
