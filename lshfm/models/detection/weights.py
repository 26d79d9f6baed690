"""Loads weights into a detector: a whole detector's, or ImageNet's for its backbone.

Kinds of files: this project's checkpoints and states of runs, torchvision's detectors (old and new names),
torchvision's classifiers, and checkpoints of the published code, of which mimicking runs hold student and teacher.
"""

import copy
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from lshfm.errors import InputError, parameter
from lshfm.files.read import read_checkpoint, sha256
from lshfm.models.detection.build import DETECTORS
from lshfm.models.run_state import describe, is_run_state, network_of_run
from lshfm.models.weights import Loaded, other_network, require_finite
from lshfm.models.wrappings import Found, State, bare, state_of, weights_in

log = logging.getLogger("lshfm")

PREDICTORS = ("roi_heads.box_predictor.", "head.classification_head.cls_logits.")  # what depends on the classes
STUDENT, TEACHER = "s_", "t_"  # before the names in published mimicking runs
HASHING = re.compile(r"(feat_)?KD_loss\.")
STAGE = re.compile(r"(backbone\.body\.)layer\d+\.0\.(\d+\.)")  # published names of a VGG with a pyramid
# A name that the published code and torchvision of its time have; today's torchvision writes another.
OLD_NAMES = ("rpn.head.conv.weight", "head.classification_head.conv.0.weight")
COUNTS = "num_batches_tracked"
# torchvision's files of detectors that were trained with frozen BatchNorm layers of eps 0.
WITHOUT_EPS = ("fasterrcnn_resnet50_fpn_coco", "retinanet_resnet50_fpn_coco")
# Of the 90 category ids of COCO, which torchvision's and the published detectors have an output each for.
UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_ROWS = (0, *(id_ for id_ in range(1, 91) if id_ not in UNUSED_IDS))
COCO_OUTPUTS = 91


def load_detector(model: nn.Module, path: Path, classes: Sequence[str] | None = None) -> Loaded:
    """Fill a detector from a file, and return what was taken, dropped and missing; an error leaves it as it was.

    From a detector everything must agree by name and shape, but for the layers that depend on the classes: these are
    taken where they fit, and, where the file names its classes, for the same ones in the same order. Of a classifier
    what its backbone has. Raises InputError for weights of another network, for values that are not finite, and for
    published weights if the network's frozen BatchNorm layers do not have their eps.
    """
    file = read_checkpoint(path)
    try:
        found, kind, theirs = _weights(path, file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    loaded = Loaded(kind, path, sha256(path), words=found.words)
    state = _without_counts(model, found.state)
    if is_whole := _is_detector(state):
        _check_eps(model, path, kind)
        taken = _detectors(model, state, theirs in (None, tuple(classes or ())) or classes is None, loaded)
    else:
        taken = _backbones(model, state, loaded)
    _fill(model, taken, loaded, is_whole=is_whole)
    return loaded


def _weights(path: Path, file: dict[str, Any]) -> tuple[Found, str, tuple[str, ...] | None]:
    """A file's weights under today's names, its kind, and the classes that it names."""
    names = file.get("classes")
    classes = tuple(map(str, names)) if isinstance(names, list | tuple) else None
    if file.get("format") == "lshfm":
        return Found(state_of(file.get("model"))), "lshfm", classes
    if is_run_state(file):
        return network_of_run(file), describe(path, file), classes
    found = bare(weights_in(file), ("backbone.",))
    is_published = any(map(_is_published_name, found.state)) or (
        "lr_scheduler" in file and any(name in found.state for name in OLD_NAMES)
    )
    found = replace(found, state={STAGE.sub(r"\1\2", name): tensor for name, tensor in found.state.items()})
    if any(name.startswith(f"{STUDENT}backbone.") for name in found.state):
        found = _of_student(found)
    return found, "published" if is_published else "torchvision", classes


def _is_published_name(name: str) -> bool:
    return name.startswith((STUDENT, TEACHER)) or STAGE.match(name) is not None


def _of_student(found: Found) -> Found:
    state = {n.removeprefix(STUDENT): t for n, t in found.state.items() if n.startswith(STUDENT)}
    return Found(state, (*found.words, "the student of the two that it holds"))


def _without_counts(model: nn.Module, state: State) -> State:
    """The weights without BatchNorm's counts of batches where the network has none, and without hash functions."""
    own = model.state_dict()
    return {
        name: tensor
        for name, tensor in state.items()
        if not HASHING.match(name) and not (name.endswith(COUNTS) and name not in own)
    }


def _is_detector(state: State) -> bool:
    return any(name.startswith(("rpn.", "roi_heads.", "head.")) for name in state)


def _check_eps(model: nn.Module, path: Path, kind: str) -> None:
    eps = next((layer.eps for layer in model.modules() if isinstance(layer, FrozenBatchNorm2d)), 0)
    if not eps or kind not in ("published", "torchvision"):
        return
    if kind == "published" or path.name.startswith(WITHOUT_EPS):
        raise InputError(
            f"{path}: its frozen BatchNorm layers have eps 0, as torchvision's once had: "
            f"add {parameter('frozen_eps')}=0"
        )
    log.warning(
        "%s does not say the eps of its frozen BatchNorm layers: %g is taken, as torchvision trains them; what was "
        "trained from its COCO weights, or by its version 0.8 or before, has 0: add %s=0",
        path, eps, parameter("frozen_eps"),
    )  # fmt: skip


def _detectors(model: nn.Module, state: State, same_classes: bool, loaded: Loaded) -> State:
    """A detector's weights, without the layers for other classes."""
    own = model.state_dict()
    state = {name: _coco_rows(name, tensor, own) for name, tensor in state.items()}
    heads = {name for name in own if name.startswith(PREDICTORS)}
    fits = same_classes and all(name in state and state[name].shape == own[name].shape for name in heads)
    if heads & state.keys() and not fits:
        loaded.dropped.append(f"the layers for its {_num_classes(state)} classes")
    if not fits:
        loaded.missing.append("class scores and boxes")
    return {name: tensor for name, tensor in state.items() if fits or not name.startswith(PREDICTORS)}


def _num_classes(state: State) -> str:
    sizes = [len(t) for name, t in state.items() if name.endswith("box_predictor.cls_score.bias")]
    return str(sizes[0] - 1) if sizes else "own"


def _coco_rows(name: str, tensor: Tensor, own: State) -> Tensor:
    """Of 91 outputs by COCO's category ids, those of its 80 categories and the background, if so many are wanted."""
    wanted = own.get(name)
    if not name.startswith(PREDICTORS) or wanted is None or wanted.shape == tensor.shape or not len(tensor):
        return tensor
    if len(tensor) % COCO_OUTPUTS or len(wanted) * COCO_OUTPUTS != len(tensor) * len(COCO_ROWS):
        return tensor
    if "cls_logits" in name:  # anchors before classes
        return tensor.view(-1, COCO_OUTPUTS, *tensor.shape[1:])[:, list(COCO_ROWS)].flatten(0, 1)
    return tensor.view(COCO_OUTPUTS, -1, *tensor.shape[1:])[list(COCO_ROWS)].flatten(0, 1)  # classes before coordinates


def _backbones(model: nn.Module, state: State, loaded: Loaded) -> State:
    """A classifier's weights under the names of a detector's backbone, of which all must be there."""
    loaded.kind = f"{loaded.kind}, a classifier"
    state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    named = {new: tensor for name, tensor in state.items() for new in _backbone_names(model, name)}
    own = model.state_dict()
    taken = {name: tensor for name, tensor in named.items() if name in own}
    wanted = [name for name in own if name.startswith(_of_backbone(model)) and not name.endswith(COUNTS)]
    if lacking := [name for name in wanted if name not in taken]:
        raise other_network(loaded.path, str(model.arch), [f"{name}: missing in the file" for name in lacking])
    loaded.missing.append("all but the backbone")
    return taken


def _of_backbone(model: nn.Module) -> tuple[str, ...]:
    is_pyramid = hasattr(model.backbone, "body")
    c4 = ("roi_heads.box_head.0.",) if str(model.arch).endswith("_c4") else ()
    return ("backbone.body." if is_pyramid else "backbone.", *c4)


def _backbone_names(model: nn.Module, name: str) -> Iterator[str]:
    """What a classifier's tensor is called in the detector."""
    if not str(model.arch).endswith("_c4"):
        yield f"{_of_backbone(model)[0]}{name.removeprefix('features.')}"
        return
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6}
    part, _, rest = name.partition(".")
    if part in places:
        yield f"backbone.{places[part]}.{rest}"
    elif part == "layer4":
        yield f"roi_heads.box_head.0.{rest}"


def _fill(model: nn.Module, taken: State, loaded: Loaded, *, is_whole: bool) -> None:
    """Load what was taken; torchvision's parts know their older names. Raises InputError for another network's."""
    require_finite(taken, loaded.path)
    faults = _faults(model, taken, () if not loaded.missing else PREDICTORS if is_whole else ("",))
    if faults:
        raise other_network(loaded.path, str(model.arch), faults)
    model.load_state_dict(taken, strict=False)
    loaded.taken = len(taken)


def _faults(model: nn.Module, taken: State, aside: tuple[str, ...]) -> list[str]:
    """What does not fit, tried on a copy without values. aside: beginnings of names that may be missing."""
    shadow = copy.deepcopy(model).to("meta")
    try:
        result = shadow.load_state_dict(taken, strict=False, assign=True)
    except RuntimeError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    lacking = [name for name in result.missing_keys if not name.startswith(aside) and not name.endswith(COUNTS)]
    return [f"{name}: missing in the file" for name in lacking] + [
        f"{name}: not in the network" for name in result.unexpected_keys
    ]


def backbone_of(arch: str) -> str:
    """The network whose ImageNet weights a detector starts from."""
    return DETECTORS[arch].backbone if arch in DETECTORS else arch
