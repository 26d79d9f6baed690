"""All that a training step changes, to be put back after steps that were only tried."""

import torch
from torch import Tensor

from lshfm.engine.state import State


class Snapshot:
    """Copies of what learns, of buffers, of the optimiser's state, the moving average and the random numbers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._copies = {id(tensor): (tensor, tensor.detach().clone()) for tensor in _changing(state)}
        self._cpu = torch.get_rng_state()
        is_on_gpu = any(tensor.is_cuda for tensor in state.learning())
        self._cuda = torch.cuda.get_rng_state() if is_on_gpu else None

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, in the tensors that are there; gradients go.

        What the optimiser has begun to keep since then becomes zeros, which is where SGD, Adam and AdamW start.
        """
        for tensor in _changing(self._state):
            if id(tensor) in self._copies:
                tensor.copy_(self._copies[id(tensor)][1])
            else:
                tensor.zero_()
        self._state.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


def _changing(state: State) -> list[Tensor]:
    kept = [value for own in state.optimizer.state.values() for value in own.values() if isinstance(value, Tensor)]
    average = [*state.ema.parameters(), *state.ema.buffers()] if state.ema else []
    return [*state.learning(), *state.objective.buffers(), *kept, *average]
