"""What is said where a GPU's memory is too small for training or for evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lshfm.errors import RunFailed


class TooLargeToEvaluate(RunFailed):
    """The batches of evaluation take more memory than there is; what was trained is as good as before."""


@contextmanager
def enough_to_evaluate(eval_batch_size: int) -> Iterator[None]:
    """Raises TooLargeToEvaluate if the block runs out of a GPU's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TooLargeToEvaluate(
            f"the GPU is out of memory in evaluation, at eval_batch_size={eval_batch_size}: the same command with a "
            "smaller one continues this run"
        ) from error


@contextmanager
def enough_to_train(batch_size: int) -> Iterator[None]:
    """Raises RunFailed if the block runs out of a GPU's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunFailed(
            f"the GPU is out of memory at batch_size={batch_size}: accumulate=2 or more takes a batch in parts, "
            "precision=bf16 halves most of it"
        ) from error
