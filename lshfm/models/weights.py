"""Loads weights from a file into a network: all of the backbone or an error; of the heads what fits, as the log says.

Kinds of files: torchvision's state dicts, this project's checkpoints and states of runs, checkpoints of the published
code, and any other state dict, bare or as training tools wrap it (models.wrappings).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lshfm.errors import InputError, option, parameter
from lshfm.files.read import read_checkpoint, sha256
from lshfm.models.backbones import TORCHVISION
from lshfm.models.classifier import Classifier
from lshfm.models.published import published_arch
from lshfm.models.recognise import recognise
from lshfm.models.run_state import describe, is_run_state, network_of_run
from lshfm.models.timm_backbone import TimmClassifier
from lshfm.models.wrappings import Found, State, bare, state_of, weights_in

# The names torchvision and the published code give to the layers behind the backbone.
FOREIGN_HEADS = (
    (re.compile(r"feat_fc\.(.+)"), r"projection.\1"),
    (re.compile(r"fc\.(.+)"), r"classifier.\1"),
    (re.compile(r"linear\.(.+)"), r"classifier.\1"),
    (re.compile(r"classifier\.[01]\.(.+)"), r"classifier.\1"),
    (re.compile(r"classifier\.(.+)"), r"classifier.\1"),
    (re.compile(r"(.+)"), r"backbone.\1"),
)


@dataclass
class Loaded:
    """What a network took from a file: `taken` tensors, not the `dropped` heads; its `missing` heads start anew."""

    kind: str
    path: Path
    sha256: str
    taken: int = 0
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    words: tuple[str, ...] = ()  # on where in the file the weights were found

    def describe(self) -> str:
        """One line for the log."""
        parts = [f"taken {self.taken} tensors from {self.path.name} ({'; '.join([self.kind, *self.words])})"]
        if self.dropped:
            parts.append(f"dropped {', '.join(self.dropped)}")
        if self.missing:
            parts.append(f"missing: {', '.join(self.missing)} (starts anew)")
        return "; ".join(parts)


@dataclass(frozen=True)
class Source:
    """A file's weights under the names it uses, and what else it says of the network they belong to."""

    kind: str
    found: Found
    arch: str | None = None
    classes: tuple[str, ...] | None = None

    def state(self, model: nn.Module) -> tuple[State, tuple[str, ...]]:
        """The weights without the prefixes that no name in `model` has, and words on where they were found."""
        own = model.state_dict()
        inner = [name.removeprefix("network.") for name in own] if isinstance(model, TimmClassifier) else []
        found = bare(self.found, {*own, *inner})
        return found.state, found.words


def _open(path: Path) -> Source:
    file = read_checkpoint(path)
    try:
        return _source(path, file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _source(path: Path, file: Mapping[str, Any]) -> Source:
    classes = file.get("classes")
    names = tuple(map(str, classes)) if isinstance(classes, list | tuple) else None
    if file.get("format") == "lshfm":
        return Source("lshfm", Found(state_of(file.get("model"))), classes=names)
    if is_run_state(file):
        return Source(describe(path, file), network_of_run(file), classes=names)
    found, arch = weights_in(file), str(file.get("arch"))
    if not found.words:
        return Source("torchvision", found)
    if "arch" in file and ("global_step" in file or published_arch(arch)[0] in TORCHVISION):
        return Source("published", found, arch=arch)
    return Source("plain", found)


def _own_names(model: nn.Module, state: State) -> State:
    """The file's weights under the names of `model`."""
    if isinstance(model, TimmClassifier) and not any(name.startswith("network.") for name in state):
        return {f"network.{name}": tensor for name, tensor in state.items()}
    if isinstance(model, Classifier) and not any(name.startswith("backbone.") for name in state):
        return {_own_name(name): tensor for name, tensor in state.items()}
    return state


def _own_name(name: str) -> str:
    return next(pattern.sub(replacement, name) for pattern, replacement in FOREIGN_HEADS if pattern.fullmatch(name))


def _heads(model: nn.Module) -> list[str]:
    """Names of the layers that may differ from the file's, in the order data meets them.

    A network whose projection is None still names it: a file's is then left out, and said to be.
    """
    projection = ["projection"] if hasattr(model, "projection") else []
    classifier = getattr(model, "classifier", None)
    return projection + [name for name, module in model.named_modules() if module is classifier]


def _below(state: Mapping[str, Tensor], head: str) -> State:
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{head}.")}


def _beside(state: Mapping[str, Tensor], heads: Sequence[str]) -> State:
    prefixes = tuple(f"{head}." for head in heads)
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def _mismatches(expected: State, state: State) -> Iterator[str]:
    for name, tensor in expected.items():
        if name not in state:
            # Files of before torch 0.4.1 lack this count; nothing depends on it.
            if not name.endswith("num_batches_tracked"):
                yield f"{name}: missing in the file"
        elif state[name].shape != tensor.shape:
            yield f"{name}: {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} in the network"
        elif state[name].is_floating_point() != tensor.is_floating_point():
            yield f"{name}: {state[name].dtype} in the file, {tensor.dtype} in the network"
    yield from (f"{name}: not in the network" for name in state if name not in expected)


def _check_body(model: nn.Module, expected: State, body: State, path: Path) -> None:
    faults = list(_mismatches(expected, body))
    if not faults:
        return
    name = getattr(model, "arch", type(model).__name__)
    recognised = recognise({name.removeprefix("backbone."): tensor.shape for name, tensor in body.items()})
    known = f" but of {recognised}" if recognised not in (None, name) else ""
    raise other_network(path, f"{name}{known}", faults)


def other_network(path: Path, name: str, faults: Sequence[str]) -> InputError:
    """The error for a file whose weights are not those of the named network, with the first five faults."""
    more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
    return InputError("\n  ".join([f"{path}: these are not weights of {name}", *faults[:5], *more]))


def published_network(path: Path) -> tuple[str, dict[str, Any]] | None:
    """The network that a checkpoint of the published code holds, and its pool and projection; None for other files.

    Raises InputError as `read_checkpoint` does, and for a network that is none of the project's.
    """
    source = _open(path)
    if source.arch is None:
        return None
    name, pool = published_arch(source.arch)
    if name not in TORCHVISION:
        raise InputError(f"{path}: holds a network called {source.arch!r}, which is none of {', '.join(TORCHVISION)}")
    projection = bare(source.found).state.get("feat_fc.weight")
    return name, {"pool": pool, "projection": None if projection is None else len(projection)}


def _check_published_arch(model: nn.Module, arch: str, path: Path) -> None:
    name, pool = published_arch(arch)
    if isinstance(model, Classifier) and (name, pool) != (model.arch, type(model.pool).__name__):
        raise InputError(
            f"{path}: holds {name} with pooling {pool}, the network is {model.arch} with "
            f"{type(model.pool).__name__}: choose {option('arch')}={name} {parameter('pool')}={pool}"
        )


def require_finite(state: State, path: Path) -> None:
    """InputError for values that are not finite, naming the first of their tensors."""
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds values that are not finite")


def _size(head: str, state: State) -> str:
    """A head of the file for a message: its name with its width or its number of classes."""
    width = list(state.values())[-1].shape
    return f"{head} ({width[0] if width else 0} {'wide' if head == 'projection' else 'classes'})"


def _take_heads(model: nn.Module, expected: State, state: State, same_classes: bool, loaded: Loaded) -> State:
    """The file's heads that fit. A head learnt on the outputs of the one before: where one misfits, so do the next."""
    taken: State = {}
    fits = True
    for head in _heads(model):
        in_network, in_file = _below(expected, head), _below(state, head)
        is_classifier = head != "projection"
        fits = fits and not any(_mismatches(in_network, in_file)) and (same_classes or not is_classifier)
        label = "classifier" if is_classifier else head
        if in_file and fits:
            taken |= in_file
        elif in_file:
            loaded.dropped.append(_size(label, in_file))
        if in_network and not (in_file and fits):
            loaded.missing.append(label)
    return taken


def load_weights(model: nn.Module, path: Path, classes: Sequence[str] | None = None) -> Loaded:
    """Fill `model` from the file, and return what was taken, dropped and missing; an error leaves it as it was.

    All but the network's attributes `projection` and `classifier` must agree by name and shape. These two are
    taken where they fit, the classifier only behind the same projection and, when `classes` are given and the
    file names its own, for the same classes in the same order.

    Raises InputError as `read_checkpoint` does, and for weights of another network (with the first
    mismatches, and which network they belong to if it is a known one), for another pooling in the published
    code's checkpoints, and for values that are not finite.
    """
    source = _open(path)
    if source.arch is not None:
        _check_published_arch(model, source.arch, path)
    theirs, words = source.state(model)
    state, expected, heads = _own_names(model, theirs), model.state_dict(), _heads(model)
    taken = _beside(state, heads)
    _check_body(model, _beside(expected, heads), taken, path)
    foreign = isinstance(model, Classifier) and state.keys() != theirs.keys()
    kind = "plain" if source.kind == "torchvision" and not foreign else source.kind
    loaded = Loaded(kind, path, sha256(path), words=words)
    same_classes = classes is None or not source.classes or tuple(classes) == source.classes
    taken |= _take_heads(model, expected, state, same_classes, loaded)
    require_finite(taken, path)
    model.load_state_dict(taken, strict=False)
    loaded.taken = len(taken)
    return loaded
