"""What a run says while it trains: console, metrics.jsonl, and the check that losses are finite."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lshfm.console import Bar, logger, shown
from lshfm.engine.files import append_line, write_text
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed


class Journal:
    """Collects losses on the device and brings them over once a log line: no transfer in a step.

    name_samples: what to call samples in a message, by their numbers.
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
        self._since = time.perf_counter()
        self._means: dict[str, float] = {}
        self._images_per_second = 0.0
        self._score = ""
        self._bar = Bar("", epochs * steps)  # of the whole run, so that the time to go is the run's

    def resume(self, epoch: int) -> None:
        """Forget what was written of epochs that will be done again; `epoch` of them are done."""
        self._bar = Bar("", self.epochs * self.steps, done=epoch * self.steps)
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if _epoch_of(line) <= epoch]
            write_text(self.path, "".join(f"{line}\n" for line in lines))

    def step(self, epoch: int, step: int, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None:
        """Take note of a step; every so many steps write a line."""
        if step == 0:
            self._since = time.perf_counter()
            self._bar.__enter__()
        self._pending.append((epoch, step, index, losses, lr))
        if (step + 1) % self.every == 0:
            self.flush()
        text = f"epoch {epoch + 1}/{self.epochs}  {self._line(lr)}{self._score}"
        self._bar.update(epoch * self.steps + step + 1, text)
        if step + 1 == self.steps:
            self._bar.__exit__()  # evaluation has a bar of its own

    def flush(self) -> None:
        """Bring the pending losses over, check and write them.

        Raises RunFailed at the first loss that is not finite, naming epoch, step and samples.
        """
        if not self._pending:
            return
        names = list(self._pending[0][3])
        losses = torch.stack([torch.stack([entry[3][n] for n in names]) for entry in self._pending]).cpu()
        self._refuse_non_finite(losses, names)
        seconds = time.perf_counter() - self._since
        self._images_per_second = len(self._pending) * self.batch_size / seconds
        self._means = dict(zip(names, losses.double().mean(0).tolist(), strict=True))
        epoch, step, _, _, lr = self._pending[-1]
        self._write(
            {"epoch": epoch + 1, "step": step + 1, "lr": lr, **self._means},
            images_per_second=round(self._images_per_second, 2),
        )
        self._pending, self._since = [], time.perf_counter()

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
        return f"{losses}{rate}  {self._images_per_second:.0f} images/s"

    def _write(self, entry: dict[str, Any], **more: Any) -> None:
        append_line(self.path, json.dumps(entry | more, allow_nan=False))

    def _refuse_non_finite(self, losses: torch.Tensor, names: list[str]) -> None:
        bad = ~torch.isfinite(losses)
        if not bad.any():
            return
        row = int(bad.any(1).nonzero()[0])
        epoch, step, index, _, lr = self._pending[row]
        named = ", ".join(f"{n} = {v}" for n, v, b in zip(names, losses[row].tolist(), bad[row], strict=True) if b)
        raise RunFailed(
            f"the loss is not finite: {named} at epoch {epoch + 1}, step {step + 1}, lr {lr:.3g}.\n"
            f"Samples of that step: {', '.join(self.name_samples(index.tolist()))}.\n"
            "Try a lower lr or a warm-up (schedule.warmup=1); checkpoints of earlier epochs are intact."
        )


def _epoch_of(line: str) -> float:
    try:
        return float(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):  # the last line of a killed run may be half a line
        return float("inf")
