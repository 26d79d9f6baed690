"""Networks compiled for the shapes that training has; everything else goes through them as they are."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lshfm.console import logger
from lshfm.engine.snapshot import Snapshot
from lshfm.engine.state import State
from lshfm.ranks.group import all_gather

Compiler = Callable[[Callable[[Tensor], Any]], Callable[[Tensor], Any]]


def inductor(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """torch.compile for fixed shapes."""
    compiled: Callable[[Tensor], Any] = torch.compile(function, dynamic=False)
    return compiled


def of_any_shape(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """torch.compile for all shapes at once."""
    compiled: Callable[[Tensor], Any] = torch.compile(function, dynamic=True)
    return compiled


class Compiled(nn.Module):
    """A module whose calls with images of one shape are compiled; those of another shape only if `varied`.

    That is the first shape of `images` images, which `make_step` sets; None: the first of all. The module itself stays
    as it is: its state dict has no other names, and evaluations call it uncompiled. While it `is_tried`, a call that
    fails goes uncompiled, and `fault` says why: its rank keeps step with the others.
    """

    def __init__(self, module: nn.Module, compiler: Compiler = inductor, *, varied: bool = False) -> None:
        super().__init__()
        self.module, self.varied = module, varied
        self._compiled: Callable[[Tensor], Any] | None = compiler(lambda images: module(images))
        self._shape: torch.Size | None = None
        self.images: int | None = None
        self.is_tried, self.fault = False, ""

    def forward(self, images: Tensor) -> Any:
        """As the module's."""
        if self._shape is None and len(images) == (self.images or len(images)):
            self._shape = images.shape
        if self._compiled is None or not (self.varied or images.shape == self._shape):
            return self.module(images)
        if not self.is_tried:
            return self._compiled(images)
        try:
            return self._compiled(images)
        except Exception as error:  # noqa: BLE001 - compilers raise nearly anything
            self.fault = _first_line(error)
            return self.module(images)

    @property
    def is_compiled(self) -> bool:
        """Whether calls with images of its shape are compiled."""
        return self._compiled is not None

    def give_up(self) -> None:
        """From here on nothing is compiled."""
        self._compiled = None


class CheckedStep:
    """A step with compiled networks: before the first full batch, forward and backward are tried, and leave no trace.

    images: of a full batch; None: as many as the first one has. Where compiling fails at any rank, all ranks go on
    uncompiled, and the log says why.
    """

    def __init__(
        self, step: Callable[[Any, float], dict[str, Tensor]], state: State, parts: int, images: int | None = None
    ) -> None:
        self.step, self.state, self.parts, self.images = step, state, parts, images
        self._generation: int | None = None
        for network in state.compiled:
            network.images = images and images // parts

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]:
        """The losses of the step."""
        if self._generation != self.state.generation and len(batch.index) == (self.images or len(batch.index)):
            self._try(batch)
            self._generation = self.state.generation
        return self.step(batch, lr)

    def _try(self, batch: Any) -> None:
        """All ranks together. What fails at one rank alone, it does uncompiled: losses may wait for all ranks."""
        before, fault = Snapshot(self.state), ""
        _set_tried(self.state.compiled, True)
        try:
            with self.state.gradients(last=False):
                torch.stack(list(self.state.objective(batch.split(self.parts)[0]).values())).sum().backward()
        except Exception as error:  # noqa: BLE001 - compilers raise nearly anything
            fault = _first_line(error)
        finally:
            _set_tried(self.state.compiled, False)
            before.restore()
        own = [each for each in (*(network.fault for network in self.state.compiled), fault) if each]
        faults = [each for ranks in all_gather(own, in_step=True) for each in ranks]
        if faults:
            logger.warning("the networks go uncompiled: %s", faults[0])
            give_up(self.state.compiled)


def give_up(networks: Sequence[Compiled]) -> None:
    """Compile none of them."""
    for network in networks:
        network.give_up()


def _set_tried(networks: Sequence[Compiled], is_tried: bool) -> None:
    for network in networks:
        network.is_tried = is_tried


def _first_line(error: Exception) -> str:
    """What failed; of torch's `backend='inductor' raised:` the next line, too."""
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first
