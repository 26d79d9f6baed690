"""No step asks the device for a number between two log lines: on a GPU the host would wait for it."""

from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from lshfm.engine.journal import Journal
from lshfm.engine.step import make_step
from tests.engine.test_captured import batches, made

ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique", "aten.equal", "aten.item")


class Asked(TorchDispatchMode):
    """Counts operations whose result the host has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if any(name in str(function) for name in ASKING):
            self.operations.append(str(function))
        return function(*arguments, **(keywords or {}))


class Lines:
    def write(self, line: object) -> None: ...
    def forget_after(self, epochs_done: int, steps_done: int) -> None: ...


@pytest.mark.parametrize(
    ("kind", "parts", "step"),
    [
        ("mimic", {"ema": 0.9, "dropout": 0.5, "head_lr": 3.0}, {"clip_grad": 0.1, "accumulate": 2}),
        ("mimic", {"optimizer": "adamw"}, {}),
        ("align", {"freeze_epochs": 1}, {}),
        ("train", {"optimizer": "adam", "ema": 0.5}, {"clip_grad": 0.1}),
    ],
)
def test_the_device_is_asked_at_log_lines_alone(kind: str, parts: dict[str, Any], step: dict[str, Any]) -> None:
    state = made(kind, **parts)
    train = make_step(state, **step)
    journal = Journal(Lines(), epochs=2, steps=100, every=3, name_samples=lambda _: [])  # type: ignore[arg-type]
    counts = []
    for batch in batches(8):
        with Asked() as asked:
            journal.step(state, batch.index, train(batch, 0.1), 0.1)
        counts.append(bool(asked.operations))
    journal.close()
    # The first losses are shown at once.
    assert counts == [True, False, True, False, False, True, False, False]
