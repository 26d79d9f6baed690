"""A training step that is recorded once, as one CUDA graph, and then repeated for batches of the same shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from lshfm.console import logger
from lshfm.engine.graphs import Graphs, NotCapturable
from lshfm.engine.snapshot import Snapshot
from lshfm.engine.state import State

Columns = Mapping[str, Tensor | None]

WARM_UP = 3  # steps, as torch recommends


class Work(Protocol):
    """A step of which what the device does can be called alone."""

    state: State

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]: ...
    def work(self, batch: Any) -> dict[str, Tensor]: ...


class StaticBatch:
    """The batch that is recorded: tensors on the device that each batch is copied into.

    What of a batch lies on the host, such as index and epoch, is not there: a recording would keep what it was. None
    stands for what a run's batches can have and do not.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = dict(columns)

    def __getattr__(self, name: str) -> Tensor | None:
        columns = self.__dict__.get("columns", {})
        if name not in columns:
            raise NotCapturable(f"it reads the batch's {name}, which does not lie on the device")
        column: Tensor | None = columns[name]
        return column

    def fill(self, columns: Columns) -> None:
        """Copy the columns of another batch in."""
        for name, column in self.columns.items():
            if column is not None and (other := columns[name]) is not None:
                column.copy_(other, non_blocking=True)

    def split(self, parts: int) -> "Sequence[StaticBatch]":
        """In so many equal parts."""
        if parts == 1:
            return [self]
        cut = zip(*(_chunks(column, parts) for column in self.columns.values()), strict=True)
        return [StaticBatch(dict(zip(self.columns, part, strict=True))) for part in cut]


class CapturedStep:
    """A step whose work is recorded at its first full batch, and repeated for all of the same shapes.

    Others go eagerly. images: of a full batch; None: as many as the first one has. It is recorded anew where
    `State.generation` is another, as after the release of a held backbone. The steps that are tried before recording
    leave no trace. Where recording fails, the log says why, and all steps go eagerly.
    """

    def __init__(self, eager: Work, graphs: Graphs, images: int | None = None) -> None:
        self.eager, self.state, self.graphs, self.images = eager, eager.state, graphs, images
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
        if self._generation != self.state.generation and len(batch.index) == (self.images or len(batch.index)):
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
        self._inputs = StaticBatch({name: None if each is None else each.clone() for name, each in columns.items()})
        before = Snapshot(self.state)
        try:
            self.graphs.warm_up(self._work, WARM_UP)
            self._replay = self.graphs.record(self._work)
        except Exception as error:  # noqa: BLE001 - what cannot be recorded fails in many ways
            self._inputs, self._losses = StaticBatch({}), {}  # whose memory is wanted by the steps to come
            _say((str(error).strip() or type(error).__name__).splitlines()[0])
        finally:
            before.restore()
        return None

    def _work(self) -> None:
        self._losses = self.eager.work(self._inputs)


def _chunks(column: Tensor | None, parts: int) -> Sequence[Tensor | None]:
    return [column] * parts if column is None or column.ndim == 0 else column.chunk(parts)


def _shapes(columns: Columns) -> object:
    return tuple((n, c is not None and (c.shape, c.stride(), c.dtype)) for n, c in columns.items())


def _say(why: str) -> None:
    logger.warning("the step is not captured, it goes eagerly: %s", why)
