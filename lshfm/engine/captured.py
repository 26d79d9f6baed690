"""A training step that is recorded once, as one CUDA graph, and then repeated for batches of the same shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from lshfm.console import logger
from lshfm.engine.graphs import Graphs, NotCapturable
from lshfm.engine.snapshot import Snapshot
from lshfm.engine.state import State

WARM_UP = 3  # steps, as torch recommends


class Work(Protocol):
    """A step of which what the device does can be called alone."""

    state: State

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]: ...
    def work(self, batch: Any) -> dict[str, Tensor]: ...


class StaticBatch:
    """The batch that is recorded: tensors on the device that each batch is copied into.

    What of a batch lies on the host, such as index and epoch, is not there: a recording would keep what it was.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = dict(columns)

    def __getattr__(self, name: str) -> Tensor:
        columns = self.__dict__.get("columns", {})
        if name not in columns:
            raise NotCapturable(f"it reads the batch's {name}, which does not lie on the device")
        column: Tensor = columns[name]
        return column

    def fill(self, columns: Mapping[str, Tensor]) -> None:
        """Copy the columns of another batch in."""
        for name, column in self.columns.items():
            column.copy_(columns[name], non_blocking=True)

    def split(self, parts: int) -> "Sequence[StaticBatch]":
        """In so many equal parts."""
        if parts == 1:
            return [self]
        cut = zip(*(column.chunk(parts) for column in self.columns.values()), strict=True)
        return [StaticBatch(dict(zip(self.columns, part, strict=True))) for part in cut]


class CapturedStep:
    """A step whose work is recorded at its first batch, and repeated for all of the same shapes; others go eagerly.

    It is recorded anew where `State.generation` is another, as after the release of a held backbone. The steps that
    are tried before recording leave no trace. Where recording fails, the log says why, and all steps go eagerly.
    """

    def __init__(self, eager: Work, graphs: Graphs) -> None:
        self.eager, self.state, self.graphs = eager, eager.state, graphs
        self._replay: Callable[[], None] | None = None
        self._generation: int | None = None  # that the recording, or the attempt, is of
        self._inputs = StaticBatch({})
        self._losses: dict[str, Tensor] = {}
        self._odd: set[object] = set()  # shapes that went eagerly

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]:
        """Losses are copies: the next step overwrites the recorded ones."""
        if not self.state.is_averaging:  # the moving average's first update is another than all later ones
            return self.eager(batch, lr)
        self.state.set_lr(lr)
        if self._generation != self.state.generation:
            self._record(batch)
        if self._replay is None or not self._fits(batch):
            return self.eager(batch, lr)
        self._inputs.fill(batch.columns)
        self._replay()
        self.state.advance()
        return {name: loss.clone() for name, loss in self._losses.items()}

    def _fits(self, batch: Any) -> bool:
        shapes = _shapes(batch.columns)
        if shapes == _shapes(self._inputs.columns):
            return True
        if shapes not in self._odd:
            self._odd.add(shapes)
            logger.info(
                "a batch of %d images has another shape than the captured ones: it goes eagerly", len(batch.index)
            )
        return False

    def _record(self, batch: Any) -> None:
        self._generation, self._replay = self.state.generation, None
        columns = getattr(batch, "columns", None)
        if columns is None:
            return _say("its batches are not made of tensors of fixed shapes")
        self._inputs = StaticBatch({name: column.clone() for name, column in columns.items()})
        before = Snapshot(self.state)
        try:
            self.graphs.warm_up(self._work, WARM_UP)
            self._replay = self.graphs.record(self._work)
        except Exception as error:  # noqa: BLE001 - what cannot be recorded fails in many ways
            _say((str(error).strip() or type(error).__name__).splitlines()[0])
        finally:
            before.restore()
        return None

    def _work(self) -> None:
        self._losses = self.eager.work(self._inputs)


def _shapes(columns: Mapping[str, Tensor]) -> object:
    return tuple((name, column.shape, column.stride(), column.dtype) for name, column in columns.items())


def _say(why: str) -> None:
    logger.warning("the step is not captured, it goes eagerly: %s", why)
