"""A report's examples: the images on which the best method gains and loses most, with small pictures."""

from collections.abc import Sequence

import numpy as np

from lshfm.config.groups import Dataset
from lshfm.report.arms import Arm
from lshfm.report.blocks import Block, Example, Gallery, Section
from lshfm.report.gallery import Pair, largest, pair_of
from lshfm.tasks.task import Task
from lshfm.tasks.thumbnails import thumbnails


def examples(task: Task, dataset: Dataset, arms: Sequence[Arm]) -> tuple[Section | None, str | None]:
    """The section, if two arms were evaluated on the same images; and why pictures are missing, if some are."""
    if (own := task.examples(dataset, arms)) is not None:
        return own
    pair = pair_of(arms)
    gains = _gains(task, pair) if pair else None
    if pair is None or gains is None:
        return None, None
    up, down = largest(gains)
    ids = [str(pair.runs[0].arrays["ids"][pair.rows[i, 0]]) for i in (*up, *down)]
    pictures, why = thumbnails(task, dataset, str(pair.runs[1].split), ids)
    blocks: list[Block] = [
        Gallery(title, pair.first.title, pair.second.title,
                [_example(task, pair, row, gains[row], pictures) for row in rows])
        for title, rows in (("Largest gains", up), ("Largest losses", down)) if len(rows)
    ]  # fmt: skip
    seeds = f"seed {pair.runs[1].seed}" if pair.runs[1].seed is not None else "one run"
    intro = (
        f"Images on which {pair.second.title} is most above and below {pair.first.title} ({seeds}), by the label loss "
        "of an image; predicted labels with their probabilities."
    )
    return Section("examples", "Examples", blocks, intro), why


def _gains(task: Task, pair: Pair) -> np.ndarray | None:
    """By how much the second run is less wrong, image by image; None for a task or for arrays that do not tell."""
    try:
        first, second = (task.losses_of_images(run.arrays) for run in pair.runs)
    except (ValueError, TypeError, IndexError):  # of damaged arrays
        return None
    return None if first is None or second is None else first[pair.rows[:, 0]] - second[pair.rows[:, 1]]


def _example(task: Task, pair: Pair, row: int, gain: float, pictures: dict[str, str]) -> Example:
    first, second = (
        task.labels_of_image(run.arrays, int(at), run.classes)
        for run, at in zip(pair.runs, pair.rows[row], strict=True)
    )
    id_ = str(pair.runs[0].arrays["ids"][pair.rows[row, 0]])
    return Example(id_, pictures.get(id_), first[0], first[1], second[1], f"loss {-gain:+.3f}")
