"""Decoding pictures in several processes, which import no torch and so start fast."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.split import BrokenImage, Images, Pixels
from lshfm.errors import RunFailed

Item = TypeVar("Item")
Result = TypeVar("Result")
Report = Callable[[int, int], None]
Work = Callable[[Images, range], dict[int, str]]

_CHUNK = 32
_MIN_IMAGES_FOR_A_POOL = 256

_images: Images  # in a worker process: what it decodes


def decode(
    images: Images, work: Callable[[Images, Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """`work(images, item)` for every item, in order: in this process if `workers` is 0, else in that many others.

    `work` is pickled, so it is a module's function or a partial of one. RunFailed if a process is killed.
    """
    if workers == 0:
        yield from (work(images, item) for item in items)
        return
    context = get_context("spawn")  # a fork would copy the locks of the threads of torch and others
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(images,))

    def submit(item: Item) -> Future[Result]:
        # Processes start here: they would inherit the default reaction to Ctrl-C, and run the user's script again.
        with _interrupts_held(), _without_script():
            return pool.submit(_work_here, work, item)

    try:
        yield from ahead(submit, items, depth=2 * workers)
    except BrokenProcessPool as error:
        raise RunFailed("A decoding process was killed: is the memory full? Fewer workers= need less.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(
    images: Images, work: Callable[[Images, Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """As `decode`, in threads: for pictures that lie decoded in memory, where no process has to be told of them."""
    workers = max(workers, 1)
    pool = ThreadPoolExecutor(workers)
    try:
        yield from ahead(lambda item: pool.submit(work, images, item), items, depth=2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(submit: Callable[[Item], Future[Result]], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """Results in the order of the items; up to `depth` are worked on beyond the one that is waited for."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(submit(item))
        if len(pending) > depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def over(
    images: Images, work: Callable[[Images, range], Result], workers: int
) -> Generator[tuple[range, Result], None, None]:
    """`work(images, chunk)` for all pictures, chunk by chunk: in other processes where there are many pictures."""
    total = len(images)
    chunks = [range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
    pooled = workers > 1 and total >= _MIN_IMAGES_FOR_A_POOL
    with closing(decode(images, work, chunks, workers if pooled else 0)) as results:
        yield from zip(chunks, results, strict=True)


def sweep(images: Images, work: Work, workers: int, report: Report) -> dict[int, str]:
    """Run `work` over all pictures in chunks; returns its messages on broken ones, by index. Reports (done, total)."""
    broken: dict[int, str] = {}
    with closing(over(images, work, workers)) as results:
        for chunk, messages in results:
            broken |= messages
            report(chunk.stop, len(images))
    return broken


def decode_each(
    images: Images, chunk: Iterable[int], size: int, keep: Callable[[int, Pixels], object]
) -> dict[int, str]:
    """`keep(index, pixels)` for every picture that decodes; messages for the others, by index."""
    broken = {}
    for index in chunk:
        try:
            pixels = images.pixels(index, size)
        except BrokenImage as error:
            broken[index] = str(error)
        else:
            keep(index, pixels)
    return broken


def decode_good(images: Images, index: NDArray[np.int64], size: int) -> tuple[Pixels, dict[int, str]]:
    """The pictures that decode, uint8 (g, size, size, 3), and what is wrong with the others, by index."""
    good: list[Pixels] = []
    broken = decode_each(images, map(int, index), size, lambda _index, pixels: good.append(pixels))
    return np.stack(good) if good else np.empty((0, size, size, 3), np.uint8), broken


def decode_whole(images: Images, index: Iterable[int]) -> tuple[list[Pixels], dict[int, str]]:
    """The pictures that decode, uint8 (h, w, 3) in their own sizes, and what is wrong with the others, by index."""
    good, broken = [], {}
    for number in index:
        try:
            good.append(np.array(images.picture(number)))  # type: ignore[attr-defined]
        except BrokenImage as error:
            broken[number] = str(error)
    return good, broken


def decode_batch(images: Images, index: NDArray[np.int64], size: int) -> Pixels | str:
    """Uint8 (B, size, size, 3), or what is wrong: an exception would bring its worker's traceback along."""
    try:
        return np.stack([images.pixels(int(i), size) for i in index])
    except BrokenImage as error:
        return str(error)


def decode_pictures(images: Images, index: NDArray[np.int64]) -> list[Pixels] | str:
    """Uint8 (h, w, 3) of each picture in its own size, or what is wrong, as `decode_batch` tells it."""
    try:
        return [np.array(images.picture(int(i))) for i in index]  # type: ignore[attr-defined]
    except BrokenImage as error:
        return str(error)


def find_broken(images: Images, size: int, workers: int, report: Report) -> tuple[int, ...]:
    """Indices of the pictures that can't be decoded, ascending; decodes them all."""
    return tuple(sweep(images, partial(_try, size=size), workers, report))


def _try(images: Images, chunk: range, size: int) -> dict[int, str]:
    return decode_each(images, chunk, size, lambda _index, _pixels: None)


def _start_worker(images: Images) -> None:
    global _images
    _images = images
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when its parent ends: if that was killed, it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work_here(work: Callable[[Images, Item], Result], item: Item) -> Result:
    return work(_images, item)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block ends; processes that start within it inherit the block and never see one."""
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


@contextmanager
def _without_script() -> Iterator[None]:
    """A new process imports the program that was started, which in a script without a guard would train once more."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
