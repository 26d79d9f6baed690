"""Images of a test set with their objects and with what networks find in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.metrics.box_errors import (
    BADLY_PLACED,
    DOUBLE,
    IGNORED,
    KINDS,
    NOTHING_THERE,
    RIGHT,
    SCORE,
    WRONG_CLASS,
    kinds_of,
)
from lshfm.metrics.boxes import Found, Truth
from lshfm.report.arms import Arm, drawn_of
from lshfm.report.blocks import Outline, Scene, Scenes, Section, View
from lshfm.report.facts import Run

SHOWN = 6  # images
NETWORKS = 3  # at most, side by side
WIDE = 0.62  # of a letter, as a share of its height
LOOKS = {RIGHT: "right", IGNORED: "aside"} | dict.fromkeys((DOUBLE, WRONG_CLASS, BADLY_PLACED, NOTHING_THERE), "wrong")

BoxesOf = Callable[[Run], tuple[Truth, Found] | None]


@dataclass(frozen=True)
class Shot:
    """A small copy of an image: data:image/jpeg;base64,..., and the size of the image that it is a copy of."""

    picture: str | None
    width: int
    height: int


@dataclass(frozen=True)
class _Network:
    title: str
    run: Run
    truth: Truth
    found: Found  # those that count
    kinds: NDArray[np.int8]
    is_found: NDArray[np.bool_]

    @classmethod
    def of(cls, arm: Arm, run: Run, truth: Truth, found: Found) -> "_Network":
        found = found.at(found.score >= SCORE)
        return cls(arm.title, run, truth, found, *kinds_of(truth, found))


def images_to_show(arms: Sequence[Arm], boxes_of: BoxesOf) -> list[str]:
    """The ids of a few test images with objects, evenly spread over those that all shown networks were tested on."""
    networks = _networks(arms, boxes_of)
    if not networks:
        return []
    known = [set(map(str, each.run.arrays["ids"].tolist())) for each in networks]
    first = networks[0]
    there = np.unique(first.truth.image)
    ids = [id_ for id_ in (str(first.run.arrays["ids"][row]) for row in there) if all(id_ in each for each in known)]
    places = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), SHOWN)).round().astype(np.int64))
    return [ids[place] for place in places]


def scenes_section(
    arms: Sequence[Arm], boxes_of: BoxesOf, ids: Sequence[str], shots: Mapping[str, Shot]
) -> Section | None:
    """The images with these ids: their objects, and what each network finds. shots: their pictures, by id."""
    networks = _networks(arms, boxes_of)
    if not networks or not ids:
        return None
    scenes = [_scene(id_, shots.get(id_), networks) for id_ in ids]
    intro = (
        f"Images evenly spread over the test images that have objects; of each network's first run the detections with "
        f"a score of at least {SCORE:g}. Green: right; red: double, of a wrong class, badly placed, or where nothing "
        "is; dashed red: an object that was missed; grey: a difficult object, which counts neither way."
    )
    return Section("scenes", "Detections and objects", [Scenes(scenes)], intro)


def _networks(arms: Sequence[Arm], boxes_of: BoxesOf) -> list[_Network]:
    networks = []
    for arm in drawn_of(arms, NETWORKS):
        told = next(((run, boxes) for run in arm.finished if (boxes := boxes_of(run))), None)
        if told:
            networks.append(_Network.of(arm, told[0], *told[1]))
    return networks


def _scene(id_: str, shot: Shot | None, networks: Sequence[_Network]) -> Scene:
    views = [_truth_view(networks[0], id_), *(_view(each, id_) for each in networks)]
    if shot is None:  # nowhere to be read: as large as its boxes
        boxes = [box for view in views for box in view.outlines]
        side = round(max([1.0, *(max(box.left + box.width, box.top + box.height) for box in boxes)]))
        shot = Shot(None, side, side)
    font = max(shot.width, shot.height) / 26
    placed = [replace(view, outlines=_with_texts(view.outlines, shot, font)) for view in views]
    return Scene(id_, shot.picture, shot.width, shot.height, font, placed)


def _with_texts(outlines: Sequence[Outline], shot: Shot, font: float) -> list[Outline]:
    """The boxes with places for their texts: at their upper left corners, or below where another text is."""
    taken: list[tuple[float, float, float]] = []  # where texts begin and end, and on which line
    placed = []
    for box in reversed(outlines):  # the one that is drawn last is the best
        wide = WIDE * font * len(box.text)
        left = max(min(box.left, shot.width - wide), 0.0)
        line = max(box.top - font / 3, font)
        while line < shot.height and any(
            left < end and begin < left + wide and abs(line - other) < font for begin, end, other in taken
        ):
            line += font
        taken.append((left, left + wide, line))
        placed.append(replace(box, at=(round(left, 1), round(line, 1))))
    return placed[::-1]


def _row(network: _Network, id_: str) -> int:
    return int(np.flatnonzero(network.run.arrays["ids"].astype(str) == id_)[0])


def _truth_view(network: _Network, id_: str) -> View:
    rows = np.flatnonzero(network.truth.image == _row(network, id_))
    outlines = [_annotated(network, row) for row in rows]
    aside = sum(_is_aside(network.truth, row) for row in rows)
    difficult = f", {aside} of them difficult" if aside else ""
    return View("objects", f"{len(rows)} annotated{difficult}", outlines)


def _annotated(network: _Network, row: Any) -> Outline:
    look, says = ("aside", "difficult") if _is_aside(network.truth, row) else ("object", "annotated")
    return _outline(network.truth.box[row], network.run.classes[network.truth.label[row]], look, says)


def _is_aside(truth: Truth, row: Any) -> bool:
    return bool(truth.difficult[row] or truth.crowd[row])


def _view(network: _Network, id_: str) -> View:
    image = _row(network, id_)
    truth, found, classes = network.truth, network.found, network.run.classes
    missed = [row for row in np.flatnonzero((truth.image == image) & ~network.is_found) if not _is_aside(truth, row)]
    rows = np.flatnonzero(found.image == image)
    rows = rows[np.argsort(found.score[rows], kind="stable")]  # the best one is drawn last
    outlines = [_outline(truth.box[row], classes[truth.label[row]], "missed", "missed") for row in missed]
    for row in rows:
        kind = network.kinds[row]
        text = f"{classes[found.label[row]]} {found.score[row]:.2f}"
        outlines.append(_outline(found.box[row], text, LOOKS[kind], KINDS[kind]))
    counts = [(int((network.kinds[rows] == kind).sum()), name) for kind, name in enumerate(KINDS)]
    told = [f"{number} {name}" for number, name in [*counts, (len(missed), "missed")] if number]
    return View(network.title, ", ".join(told) or "nothing found", outlines)


def _outline(box: NDArray[np.float64], text: str, look: str, says: str) -> Outline:
    left, top, right, bottom = (round(float(edge), 1) for edge in box)
    return Outline(left, top, round(right - left, 1), round(bottom - top, 1), text, look, f"{text}: {says}")
