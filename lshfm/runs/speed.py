"""What speed=fast comes to: for a run's length, its settings, and what the machine has."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from lshfm.config.schema import Mimic, Training
from lshfm.console import logger
from lshfm.engine.graphs import CudaGraphs, Graphs
from lshfm.ranks.device import is_better_in_bf16, missing_compiler, settled
from lshfm.ranks.group import num_ranks

# Compiling two networks takes 14 s (r34 -> r18) to 51 s (r101 -> r50), and what it saves an image grows with their
# layers in the same way, and with the image's pixels: at 448 px 0.13 and 0.47 ms on an H100. So it has paid from about
# 140,000 images of 448 x 448 on, whatever the network. Slower cards compile as fast and gain more.
PIXELS_WORTH_COMPILING = 140_000 * 448 * 448
# Where every kernel is launched by Python, bf16 adds more launches than it saves time: at 448 px fp32 was the faster
# one for 16 images a step, bf16 for 32.
PIXELS_WORTH_BF16_EAGERLY = 24 * 448 * 448


@dataclass(frozen=True)
class Speed:
    """How a run computes; `notes` say what it goes without, and why."""

    precision: str  # fp32 or bf16
    fused: bool = False  # the optimiser's update is one kernel
    captured: bool = False  # the whole step is one CUDA graph
    compiled: bool = False  # teacher, student and augmentation
    varied: bool = False  # batches differ in shape: the teacher alone is compiled
    notes: tuple[str, ...] = ()

    @property
    def graphs(self) -> Graphs | None:
        """What records the step; None where it is not captured."""
        return CudaGraphs() if self.captured else None

    def log(self, settings: Training, device: torch.device) -> None:
        """Say what speed=fast does, and what it does not, a line each; nothing of speed=exact."""
        if settings.speed == "exact":
            return
        networks = "teacher" if self.varied else "teacher and student"
        has = {
            self.precision: True, "fused optimiser": self.fused, f"{networks} compiled": self.compiled,
            "the step captured as one CUDA graph": self.captured,
        }  # fmt: skip
        on = ", ".join(name for name, is_on in has.items() if is_on)
        logger.info("speed=fast on %s: %s", "the CPU" if device.type == "cpu" else device, on)
        for note in self.notes:
            logger.info("%s", note)


def speed_of(settings: Training, device: torch.device, images: int, *, varied: bool = False) -> Speed:
    """How a run of `images` training images an epoch computes. All ranks alike. varied: batches differ in shape."""
    if settings.speed == "exact":
        return Speed(settled(settings.precision, device))
    why_eager, why_uncompiled = _why_eager(device, varied), _why_uncompiled(settings, device, images, varied)
    captured, compiled = not why_eager, not why_uncompiled
    precision, why_fp32 = _precision(settings, device, captured=captured)
    notes = tuple(note for note in (why_fp32, why_eager, why_uncompiled) if note)
    return Speed(precision, True, captured, compiled, varied, notes)


def _why_eager(device: torch.device, varied: bool) -> str:
    if device.type != "cuda":
        return "a CPU has no graphs to capture the step in: it goes operation by operation"
    if varied:
        return "the step is not captured: the shapes of its batches vary"
    if num_ranks() > 1:
        return f"with {num_ranks()} ranks the step is not captured: the gradients' way between them is not recorded"
    if dist.is_initialized():
        return "a rank that a launcher started is not captured, even alone: its gradients go through a group of ranks"
    return ""


def _why_uncompiled(settings: Training, device: torch.device, images: int, varied: bool) -> str:
    if device.type != "cuda":  # measured with ResNet-8, ResNet-18 and MobileNetV2
        return "nothing is compiled: for a CPU that takes minutes, and the step is as fast without"
    if varied and not isinstance(settings, Mimic):
        return "nothing is compiled: the shapes of batches vary, and there is no teacher"
    if missing := missing_compiler(device):
        return f"nothing is compiled: {missing}"
    if settings.sync_bn and num_ranks() > 1:
        return "nothing is compiled: with sync_bn=true ranks wait for each other within the networks"
    planned = images * settings.epochs
    least = -(-PIXELS_WORTH_COMPILING // settings.dataset.size**2)
    if planned < least:
        return (
            f"nothing is compiled: at {settings.dataset.size} px that pays from {least:,} images on, and this run sees "
            f"{planned:,}"
        )
    return ""


def _precision(settings: Training, device: torch.device, *, captured: bool) -> tuple[str, str]:
    """The precision of the network's arithmetic, and why it is fp32 if that was left open."""
    if settings.precision != "auto":
        return settings.precision, ""
    if not is_better_in_bf16(device):
        return "fp32", f"fp32: this {'GPU' if device.type == 'cuda' else 'CPU'} is not faster in bf16"
    part = settings.batch_size // num_ranks() // settings.accumulate * settings.dataset.size**2
    if device.type == "cuda" and not captured and part < PIXELS_WORTH_BF16_EAGERLY:
        return "fp32", "fp32: for so few pixels at a time bf16 takes longer, unless the step is captured"
    return "bf16", ""
