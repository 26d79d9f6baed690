"""When a run ends before its last epoch."""

from collections.abc import Callable

from lshfm.engine.state import State


def never(_state: State) -> bool:
    """All epochs are trained."""
    return False


def without_progress(patience: int) -> Callable[[State], bool]:
    """Whether so many epochs have passed since the best one, or since the start where no score was defined.

    That is judged where an epoch was evaluated, so that a run ends with an evaluation.
    """

    def is_enough(state: State) -> bool:
        best = state.best
        return state.is_evaluated and state.epoch - (best["epoch"] if best else 0) >= patience

    return is_enough
