"""What an exported file says of its network, as JSON in the file's own metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from lshfm.datasets.fitting import FITS
from lshfm.errors import InputError
from lshfm.files.parse import parse_json
from lshfm.metrics.decisions import ACTIVATIONS, Decisions
from lshfm.runs.layout import is_choice, is_plain

KEY = "lshfm"  # the metadata entry that holds the description
VERSION = 1
NAMES = ("lshfm", "torchvision", "timm")  # of the weights
LARGEST = 8192  # pixels a side, as for data sets
BOX_OUTPUTS = ["boxes", "scores", "labels"]  # of detectors


@dataclass(frozen=True, kw_only=True)
class Description:
    """Everything that is needed to use an exported network, and what it is; None for what is not known."""

    version: int = VERSION
    lshfm: str  # version of the package that wrote the file
    title: str  # the network with its pooling
    network: dict[str, Any]  # option of the group model, and its values
    task: str  # option of the group task
    activation: str  # of the logits: sigmoid or softmax; "" where outputs are boxes
    classes: list[str]
    size: int  # images are size x size
    mean: list[float]
    std: list[float]
    fit: str = "stretch"  # how pictures become squares: stretch, or crop (short side to 256/224 of size, the centre)
    precision: str = "fp32"  # of the weights
    names: str = "lshfm"  # whose names the weights have: lshfm's own, torchvision's, timm's
    input: str = "normalised"  # float32 (B, 3, size, size); or uint8: (B, size, size, 3), RGB
    outputs: list[str]  # logits or probabilities, and perhaps feature; or boxes, scores and labels
    opset: int | None = None  # of ONNX
    thresholds: list[float] | None = None  # probabilities, in the order of the classes
    thresholds_chosen: str | None = None  # how and on which images, in words
    temperature: float = 1.0  # what logits are divided by before the activation
    dataset: str | None = None  # trained on
    split: str | None = None  # of `dataset`, that `score` is of
    metric: str | None = None  # "voc2010 mAP"
    score: float | None = None
    category_ids: list[Any] | None = None  # of the classes in COCO's format; None: counted from 1
    from_random: bool = False  # whether training started from random weights
    teacher: str | None = None
    starting_weights: str | None = None
    parity: dict[str, Any] | None = None  # how its outputs compared with the checkpoint's, once they had
    weights_sha256: str  # of the checkpoint's weights
    licence: str

    @property
    def gives_boxes(self) -> bool:
        """Whether it is of a detector."""
        return self.outputs == BOX_OUTPUTS

    @property
    def decisions(self) -> Decisions:
        """How its outputs become labels."""
        thresholds = None if self.thresholds is None else tuple(self.thresholds)
        return Decisions(self.activation, self.temperature, thresholds)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def read(cls, metadata: Mapping[str, str], file: object) -> Self:
        """The description in a file's metadata. Raises InputError where there is none, or a damaged or newer one."""
        if KEY not in metadata:
            raise InputError(f"{file} was not exported by lshfm: it names neither classes nor network")
        try:
            entry = parse_json(metadata[KEY])
            is_newer = entry.get("version", 0) > VERSION
            known = {each.name for each in fields(cls)}
            read = None if is_newer else cls(**{name: value for name, value in entry.items() if name in known})
            if read:
                read._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{file} is damaged: its description cannot be read ({error})") from error
        if read is None:
            raise InputError(f"{file} was written by a newer lshfm ({entry.get('lshfm')}): upgrade to read it")
        return read

    def _check(self) -> None:
        """Raise ValueError for values of another kind, and for what could lead out of conf/."""
        for name, hint in get_type_hints(type(self)).items():
            if not _is_of(getattr(self, name), hint):
                raise ValueError(f"{name} is of the wrong kind")
        num = len(self.classes)
        holds = {
            "network": is_choice(self.network) and is_plain(self.network),
            "activation": self.activation in ([""] if self.gives_boxes else ACTIVATIONS),
            "category_ids": self.category_ids is None or _are_ids(self.category_ids, num),
            "names": self.names in NAMES,
            "classes": num > 0 and all(isinstance(each, str) for each in self.classes),
            "size": 0 < self.size <= LARGEST,
            "mean": _are_numbers(self.mean, 3),
            "std": _are_numbers(self.std, 3) and min(self.std) > 0,
            "thresholds": self.thresholds is None or _are_numbers(self.thresholds, num),
            "temperature": self.temperature > 0,
            "fit": self.fit in FITS,
        }
        for name, is_right in holds.items():
            if not is_right:
                raise ValueError(f"{name} is of the wrong kind")


def _is_of(value: Any, hint: Any) -> bool:
    kinds = {get_origin(kind) or kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,))}
    return type(value) in kinds or (type(value) is int and float in kinds)


def _are_ids(values: list[Any], num: int) -> bool:
    return len(values) == num and all(type(value) in (int, str) for value in values)


def _are_numbers(values: list[Any], num: int) -> bool:
    return len(values) == num and all(type(value) in (int, float) for value in values)
