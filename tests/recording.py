"""Graphs for a CPU: the operations of a step are recorded as they come, and repeated on the same tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Tape(TorchDispatchMode):
    """The operations of a block with the very tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        if "_local_scalar_dense" in str(function):
            raise RuntimeError("operation not permitted when stream is capturing")
        self.operations.append((function, arguments, keywords or {}, result))
        return result

    def replay(self) -> None:
        """Repeat what was recorded: where an operation made tensors, its new results go into those."""
        with torch.no_grad():
            for function, arguments, keywords, result in self.operations:
                again = function(*arguments, **keywords)
                for old, new in zip(_tensors(result), _tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():  # neither in place nor a view
                        old.copy_(new)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_flatten(values)[0] if isinstance(each, Tensor) and each.numel()]


class RecordedGraphs:
    """As engine.graphs.CudaGraphs, for a CPU: a replay repeats operations, and nothing that Python did."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, work: Callable[[], object], times: int) -> None:
        for _ in range(times):
            work()

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        self.recorded += 1
        tape = Tape()
        with tape:
            work()

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay
