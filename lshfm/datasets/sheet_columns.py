"""What the fields of a manifest's rows mean, by their names, and the box that they hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lshfm.datasets.annotations import Box
from lshfm.datasets.checks import first_five, require_unique
from lshfm.errors import InputError, nearest, printable

# Where an object is, in pixels from 0; right and bottom lie behind the last pixel.
_EDGES = {"left": ("xmin", "x1"), "top": ("ymin", "y1"), "right": ("xmax", "x2"), "bottom": ("ymax", "y2")}
# What a column means, by its names in any case; the first is ours.
NAMES = {
    "path": (
        "path",
        "image",
        "filename",
        "file",
        "file_name",
        "filepath",
        "file_path",
        "image_path",
        "img",
        "img_path",
    ),
    "labels": ("labels", "label", "tags", "tag", "classes", "class", "categories", "category"),
    "difficult": ("difficult",),
    "id": ("id",),
}
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_ROLES = {name: role for role, names in (NAMES | _EDGES).items() for name in names}
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # so that a header is seen to be none

ONE = "label"  # the field of a manifest whose images have one label each
IN_ORDER = ("path", "id", "labels", "difficult")


def roles_of(fields: Iterable[str]) -> dict[str, str]:
    """The field's name for each role that one has. Raises InputError where two have the same."""
    fields = list(fields)
    require_unique("field", fields)
    roles: dict[str, str] = {}
    for name in fields:
        role = _ROLES.get(name.lower(), "")
        if role in roles and {roles[role].lower(), name.lower()} == {"label", "labels"}:
            raise InputError(
                f"both '{roles[role]}' and '{name}': '{ONE}' holds one label a row, 'labels' any number; leave one out"
            )
        if role in roles:
            raise InputError(f"both '{roles[role]}' and '{name}' stand for the {role}: leave one out")
        roles |= {role: name} if role else {}
    return roles


def require_roles(
    roles: Mapping[str, str], fields: Sequence[str], others: Sequence[str], *, is_one_hot: bool = False
) -> None:
    """Raise InputError for a header without a path or labels, with part of a box, or with a column of no role.

    roles: columns by role. fields: all columns. others: those without a role. is_one_hot: labels are columns.
    """
    for role in ("path", "labels"):
        if role not in roles and not (role == "labels" and is_one_hot):
            raise InputError(f"no '{role}' among {first_five(fields) or 'no fields'}: {_hint(role, fields)}")
    _require_edges(roles)
    for name in others:
        if not name:
            raise InputError("a column has no name: pandas writes one of row numbers, but not with index=False")
        raise InputError(f"unknown field '{printable(name)}'{nearest(printable(name), _ROLES)}")


def _hint(role: str, fields: Iterable[str]) -> str:
    """What to do about a header without a role: it may have semicolons, or be no header at all."""
    if ";" in "".join(fields):
        return "fields are separated by commas or tabs, and labels within one by semicolons"
    if any(Path(field).suffix.lower() in _PICTURES for field in fields):
        return "the first line must name the columns, as path,labels"
    return f"give each image's {role} in a field of that name, as in path,labels"


def _require_edges(roles: Mapping[str, str]) -> None:
    """InputError for fields that say a part of a box."""
    lacking = [_EDGES[role][0] for role in _EDGES if role not in roles]
    if 0 < len(lacking) < len(_EDGES):
        raise InputError(f"a box takes {', '.join(names[0] for names in _EDGES.values())}: no {', '.join(lacking)}")


def box_of(fields: Mapping[str, object], roles: Mapping[str, str], num_labels: int) -> Box | None:
    """The box of a row; None where the row has none. Raises InputError for what is no box of one object."""
    values = [fields.get(roles.get(role, "")) for role in _EDGES]
    if all(value is None or value == "" for value in values):
        return None
    if num_labels != 1:
        raise InputError(f"a row with a box takes one label, and this one has {num_labels}")
    return Box(*(_number(roles[role], value) for role, value in zip(_EDGES, values, strict=True)))


def by_flag(
    labels: tuple[str, ...], difficult: tuple[str, ...], fields: Mapping[str, object], roles: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A row's labels and difficult ones; of a box `difficult` may be 0 or 1 beside its label, as exporters write it."""
    flag = _FLAGS.get(difficult[0].lower()) if len(difficult) == 1 and "left" in roles else None
    if flag is None:
        return labels, difficult
    if len(labels) == 1:
        return ((), labels) if flag else (labels, ())
    is_bare = not labels and box_of(fields, roles, 1) is None
    return ((), ()) if is_bare and not flag else (labels, difficult)


def _number(name: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} is {printable(str(value))[:40]!r}, expected a number of pixels")
    return number
