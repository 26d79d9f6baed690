"""Which images of a training split are held out for validation."""

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets import keyed
from lshfm.errors import InputError, parameter

Index = NDArray[np.int64]
Shows = NDArray[np.bool_]  # (n, C): which classes an image shows

TRAIN, HELD = 0, 1


def holdout(n: int, fraction: float, shows: Shows | None = None) -> tuple[Index, Index]:
    """Indices to train on and to validate on, each ascending and the same in every run; 0 holds nothing out.

    shows: has every class on both sides where it has two images, if these can be parted so, and about `fraction` of
    each; where that takes more images than `fraction` of all, more are held out. Without it chance decides.
    InputError unless 0 <= fraction < 1 leaves at least one image on each side.
    """
    given = f"{parameter('holdout')}={fraction}"
    if not 0 <= fraction < 1:
        raise InputError(f"{given} is not from 0 to below 1")
    num_held = round(n * fraction)
    if fraction > 0 and not 0 < num_held < n:
        raise InputError(f"{given} of {n} images leaves one part empty")
    order = keyed.permutation(0, 0, n, keyed.Stream.HOLDOUT)
    if shows is None or not num_held:
        return np.sort(order[num_held:]), np.sort(order[:num_held])
    side = _stratified(shows, num_held, order)
    return np.flatnonzero(side == TRAIN), np.flatnonzero(side == HELD)


def one_sided(shows: Shows, learn: Index, held: Index) -> Index:
    """The classes with two images or more that all lie on one side."""
    on_train, on_held = (shows[part].sum(axis=0) for part in (learn, held))
    return np.flatnonzero((on_train + on_held >= 2) & ((on_train == 0) | (on_held == 0)))


def _stratified(shows: Shows, num_held: int, order: Index) -> NDArray[np.int8]:
    """int8 (n,), TRAIN or HELD for each image."""
    side = _by_rarest_class(shows, num_held, order)
    counts = np.stack([shows[side == part].sum(axis=0) for part in (TRAIN, HELD)])
    _cover(shows, side, counts, order)
    _settle_size(shows, side, counts, num_held, order)
    return side


def _by_rarest_class(shows: Shows, num_held: int, order: Index) -> NDArray[np.int8]:
    """Iterative stratification (Sechidis et al. 2011): class by class, the rarest first, to the side that lacks it."""
    n = len(shows)
    total = shows.sum(axis=0)
    held = np.where(total >= 2, np.clip(total * num_held / n, 1, np.maximum(total - 1, 1)), 0)
    wanted = np.stack([total - held, held])  # images of each class that a side still lacks
    room = np.array([n - num_held, num_held])
    side = np.full(n, -1, np.int8)
    while (left := shows[side < 0].sum(axis=0)).any():
        rarest = int(np.where(left > 0, left, n + 1).argmin())
        for image in order[(shows[:, rarest] & (side < 0))[order]]:
            lacks = wanted[:, rarest]
            chosen = int(lacks.argmax()) if lacks[0] != lacks[1] else int((room / [n - num_held, num_held]).argmax())
            side[image] = chosen
            wanted[chosen] -= shows[image]
            room[chosen] -= 1
    rest = order[(side < 0)[order]]
    side[rest] = TRAIN
    side[rest[: max(int(room[HELD]), 0)]] = HELD
    return side


def _cover(shows: Shows, side: NDArray[np.int8], counts: NDArray[np.int64], order: Index) -> None:
    """Move images so that classes are on both sides, where that takes none of the last of another class."""
    for lacking in (HELD, TRAIN):
        for label in np.flatnonzero((counts[lacking] == 0) & (counts[1 - lacking] >= 2)):
            there = order[(shows[:, label] & (side != lacking))[order]]
            free = (image for image in there if _can_leave(shows[image], counts, 1 - lacking))
            if not counts[lacking, label] and (image := next(free, None)) is not None:
                _move(shows, side, counts, int(image))


def _settle_size(shows: Shows, side: NDArray[np.int8], counts: NDArray[np.int64], num_held: int, order: Index) -> None:
    """Bring the held-out part to its size with images that no class needs where they are."""
    surplus = int((side == HELD).sum()) - num_held
    fuller = HELD if surplus > 0 else TRAIN
    for image in order[(side == fuller)[order]]:
        if surplus == 0:
            return
        if _can_leave(shows[image], counts, fuller):
            _move(shows, side, counts, int(image))
            surplus -= 1 if surplus > 0 else -1


def _can_leave(shown: NDArray[np.bool_], counts: NDArray[np.int64], part: int) -> bool:
    """Whether an image is, for no class with images on both sides or two in all, the last of its side."""
    needed = shown & (counts[part] == 1) & (counts.sum(axis=0) >= 2)
    return not needed.any()


def _move(shows: Shows, side: NDArray[np.int8], counts: NDArray[np.int64], image: int) -> None:
    counts[side[image]] -= shows[image]
    side[image] = 1 - side[image]
    counts[side[image]] += shows[image]
