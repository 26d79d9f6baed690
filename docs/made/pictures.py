"""The drawings of mimicking.md, made by `python -m docs.made.pictures`: hash functions, their bits, the two stages."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "pictures"
INK, PALE, TEACHER, STUDENT, LEARNS = "#333", "#999", "#1565c0", "#e65100", "#fff3e0"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
    'font-family="sans-serif" font-size="14" fill="{ink}">\n'
    '<rect width="{w}" height="{h}" rx="8" fill="#fff"/>\n'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>\n'
)


def picture(width: int, height: int, parts: Iterable[str]) -> str:
    """An SVG of these parts on white."""
    return HEAD.format(w=width, h=height, ink=INK) + "\n".join(parts) + "\n</svg>\n"


def text(x: float, y: float, words: str, *, colour: str = INK, anchor: str = "middle", size: int = 14) -> str:
    """Words, their baseline at y."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def line(ends: tuple[float, float, float, float], colour: str, more: str = "") -> str:
    """A line from (x, y) to (x, y)."""
    x, y, to_x, to_y = ends
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{colour}" fill="none" {more}/>'


def arrow(ends: tuple[float, float, float, float], colour: str, width: float = 1.5) -> str:
    """A line with a tip."""
    return line(ends, colour, f'stroke-width="{width}" marker-end="url(#tip)"')


def box(x: float, y: float, width: float, words: str, colour: str, *, learns: bool = False) -> str:
    """A named part of a network, 40 high; filled if it learns."""
    fill = LEARNS if learns else "#fff"
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="40" rx="5" fill="{fill}" stroke="{colour}"/>'
    return frame + text(x + width / 2, y + 25, words)


def stages() -> str:
    """Which parts learn in which stage, and what is compared."""
    return picture(760, 470, [*_stage(0, 1), line((20, 225, 740, 225), "#ddd"), *_stage(235, 2)])


def _stage(top: float, number: int) -> list[str]:
    both = number == 2
    title = "all of the student learns, from labels too" if both else "the projection learns, without labels"
    found = [text(20, top + 28, f"Stage {number}: {title}", anchor="start", size=16)]
    found += [text(24, top + 133, "pixels", anchor="start"), arrow((72, top + 120, 108, top + 82), PALE)]
    found += [arrow((72, top + 135, 108, top + 172), PALE)]
    found += [box(115, top + 55, 170, "teacher, frozen", TEACHER), arrow((285, top + 75, 470, top + 75), TEACHER)]
    found += [
        box(115, top + 155, 170, "student", STUDENT, learns=both),
        arrow((285, top + 175, 318, top + 175), STUDENT),
    ]
    found += [box(325, top + 155, 110, "projection", STUDENT, learns=True)]
    found += [arrow((435, top + 175, 470, top + 175), STUDENT)]
    found += [text(512, top + 80, "feature", colour=TEACHER), text(512, top + 180, "feature", colour=STUDENT)]
    found += [line((512, top + 88, 512, top + 164), INK, 'stroke-dasharray="4 3"')]
    found += [text(522, top + 130, "mimicking losses", anchor="start")]
    if both:
        found += [
            arrow((545, top + 175, 575, top + 175), STUDENT),
            box(582, top + 155, 95, "classifier", STUDENT, learns=True),
        ]
        found += [text(629, top + 220, "label loss")]
    return found


def hashing() -> str:
    """Lines through the origin of a plane, a teacher's and two students' features, and their bits."""
    features = {"teacher": (58, 165, TEACHER), "student, before": (-25, 95, PALE), "student, after": (52, 80, STUDENT)}
    normals = [12, 47, 83, 112, 158]  # of the lines, in degrees
    middle_x, middle_y, reach = 210, 200, 180
    parts = []
    for number, normal in enumerate(normals):
        along = math.radians(normal + 90)
        x, y = reach * math.cos(along), reach * math.sin(along)
        parts.append(line((middle_x - x, middle_y + y, middle_x + x, middle_y - y), PALE, 'stroke-dasharray="5 4"'))
        parts.append(text(middle_x + 1.06 * x, middle_y - 1.06 * y + 5, f"w{number + 1}", colour=PALE))
    for angle, length, colour in features.values():
        x, y = length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))
        parts.append(arrow((middle_x, middle_y, middle_x + x, middle_y - y), colour, 3))
    heads = [430 + 145, *(610 + 30 * number for number in range(5))]
    parts += [text(x, 110, f"w{n}", colour=PALE) for n, x in enumerate(heads[1:], 1)]
    teacher = _bits(features["teacher"][0], normals)
    for row, (name, (angle, _, colour)) in enumerate(features.items()):
        bits = _bits(angle, normals)
        y = 145 + 45 * row
        parts.append(text(430, y, name, colour=colour, anchor="start"))
        parts += [text(x, y, str(bit), colour=colour) for x, bit in zip(heads[1:], bits, strict=True)]
        if row:
            equal = sum(one == other for one, other in zip(bits, teacher, strict=True))
            parts.append(text(430, y + 18, f"{equal} of {len(bits)} bits equal", colour=PALE, anchor="start", size=12))
    parts.append(text(430, 310, "The lengths differ; the bits do not see it.", anchor="start"))
    return picture(760, 400, parts)


def _bits(angle: float, normals: Iterable[float]) -> list[int]:
    """On which side of each line a feature of this direction lies."""
    return [int(math.cos(math.radians(angle - normal)) > 0) for normal in normals]


def bits_and_angle() -> str:
    """The share of equal bits of 2048 hash functions for pairs of 64 numbers, beside 1 - angle / 180."""
    left, top, width, height = 80, 30, 600, 260
    parts = [line((left, top, left, top + height), INK), line((left, top + height, left + width, top + height), INK)]
    parts += [text(left + width * a / 180, top + height + 20, f"{a}°") for a in range(0, 181, 30)]
    parts += [text(left - 10, top + height * (1 - s) + 5, f"{100 * s:.0f} %", anchor="end") for s in (0, 0.5, 1)]
    parts += [text(left + width / 2, top + height + 45, "angle between the student's and the teacher's feature")]
    parts += [line((left, top, left + width, top + height), PALE, 'stroke-dasharray="5 4"')]
    parts += [text(left + 330, top + 60, "equal bits of 2048 random hash functions", colour=STUDENT, anchor="start")]
    parts += [text(left + 330, top + 80, "dashed: 1 - angle / 180°", colour=PALE, anchor="start")]
    for angle, share in measured():
        x, y = left + width * angle / 180, top + height * (1 - share)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{STUDENT}"/>')
    return picture(760, 350, parts)


def measured() -> list[tuple[int, float]]:
    """(angle in degrees, share of equal bits) of pairs of vectors with different lengths."""
    random = np.random.default_rng(0)
    functions = random.standard_normal((2048, 64))
    found = []
    for angle in range(0, 181, 15):
        one = random.standard_normal(64)
        one /= np.linalg.norm(one)
        beside = random.standard_normal(64)
        beside -= one * (one @ beside)
        beside /= np.linalg.norm(beside)
        turned = math.cos(math.radians(angle)) * one + math.sin(math.radians(angle)) * beside
        found.append((angle, float(((functions @ one > 0) == (functions @ (3 * turned) > 0)).mean())))
    return found


PICTURES = {"stages": stages, "hashing": hashing, "bits_and_angle": bits_and_angle}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, drawn in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(drawn(), encoding="utf-8")
