"""The formats that a network is exported in: a writer of each, and the network that the written file holds."""

import copy
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from lshfm.console import silence
from lshfm.errors import InputError, RunFailed
from lshfm.files.write import checkpoint_bytes
from lshfm.models.cifar import CIFAR
from lshfm.models.timm_backbone import timm_classifier
from lshfm.runs.checkpoint import Checkpoint
from lshfm.shipping.checkpoints import described_network
from lshfm.shipping.description import KEY, Description
from lshfm.shipping.graph import DTYPES, Returned, Shipped
from lshfm.shipping.load import open_safetensors
from lshfm.shipping.names import LAYOUTS, arch_there, library_of, other_names, renamed, why_not
from lshfm.shipping.onnx import OnnxPredictor
from lshfm.shipping.optional import library

Save = Callable[[Path, Description], None]  # writes the file, with this description in it where it holds one


@dataclass(frozen=True)
class Format:
    """A format: the ending of its files, whether they hold a graph, and its two functions.

    make: of a network and its description what writes the file, again where more has become known of it. back: the
    network in a file that this process has just written.
    """

    ending: str
    is_graph: bool
    make: Callable[[nn.Module, Description], Save]
    back: Callable[[Path, nn.Module, Description], nn.Module]


def make_onnx(network: nn.Module, described: Description) -> Save:
    """An ONNX file with a dynamic number of images, its description among its metadata."""
    library("onnxscript")
    shipped = Shipped(network, described).eval()
    with explained("onnx", described.title), warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            shipped, (shipped.example(described.size),), dynamo=True, input_names=["images"],
            output_names=described.outputs, dynamic_shapes=_dynamic(), opset_version=described.opset, verbose=False,
        )  # fmt: skip
    assert program is not None

    def save(path: Path, described: Description) -> None:
        program.model.metadata_props[KEY] = described.text()
        program.save(path)

    return save


def read_onnx(path: Path, _network: nn.Module, described: Description) -> nn.Module:
    """The file in ONNX Runtime, on a CPU."""
    session = OnnxPredictor.open(path, threads=torch.get_num_threads())
    return Returned(lambda images: session.run({"images": images}), described)


def make_pt2(network: nn.Module, described: Description) -> Save:
    """A program of torch.export, its description in the extra file `lshfm`."""
    shipped = Shipped(network, described).eval()
    with explained("pt2", described.title), warnings.catch_warnings(action="ignore"), torch.no_grad():
        program = torch.export.export(shipped, (shipped.example(described.size),), dynamic_shapes=_dynamic())

    def save(path: Path, described: Description) -> None:
        buffer = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):
            torch.export.save(program, buffer, extra_files={KEY: described.text()})
        _put(path, buffer.getbuffer())

    return save


def read_pt2(path: Path, _network: nn.Module, described: Description) -> nn.Module:
    """The file that this process has just written; of other people's such files nothing is read."""
    with warnings.catch_warnings(action="ignore"):
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(images: Any) -> dict[str, Any]:
        outputs = module(torch.from_numpy(images))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: each.detach().numpy() for name, each in zip(described.outputs, outputs, strict=True)}

    return Returned(run, described)


def make_safetensors(network: nn.Module, described: Description) -> Save:
    """The weights, under the names of the library that has the network, with the description."""
    library("safetensors")
    from safetensors.torch import save

    weights = weights_of(network, described, library_of(network))
    return lambda path, described: _put(path, save(weights, metadata={KEY: described.text()}))


def read_safetensors(path: Path, network: nn.Module, _described: Description) -> nn.Module:
    """As lshfm.load reads it; a network of the user's own class is a copy of the one that was exported."""
    own = copy.deepcopy(network)
    return open_safetensors(path, lambda **_: own)[1]


def make_torchvision(network: nn.Module, described: Description) -> Save:
    """A state dict for torchvision's own network; such a one has no room for a description."""
    weights = dict(weights_of(network, described, "torchvision"))
    return lambda path, _described: _put(path, checkpoint_bytes(weights).getbuffer())


def read_torchvision(path: Path, network: nn.Module, described: Description) -> nn.Module:
    """torchvision's own network, loaded strictly."""
    theirs = torchvision.models.get_model(str(network.arch), num_classes=len(described.classes))
    return _Theirs(_strictly(theirs, path))


def make_timm(network: nn.Module, described: Description) -> Save:
    """A state dict for timm's own network; such a one has no room for a description."""
    weights = dict(weights_of(network, described, "timm"))
    return lambda path, _described: _put(path, checkpoint_bytes(weights).getbuffer())


def read_timm(path: Path, network: nn.Module, described: Description) -> nn.Module:
    """timm's own network, loaded strictly."""
    pool = described.network["values"].get("pool")
    theirs = timm_classifier(arch_there("timm", network), len(described.classes), pool).network
    return _Theirs(_strictly(theirs, path))


def make_published(network: nn.Module, described: Description) -> Save:
    """A checkpoint as the published code writes it, without its optimiser, with the description as one more entry.

    Of networks for small images that is RepDistiller's, which does not say which network it holds.
    """
    state = weights_of(network, described, "published")
    if network.arch in CIFAR:
        small = {"epoch": 0, "model": state, "best_acc": described.score or 0.0}
        return lambda path, described: _put(path, checkpoint_bytes(small | {KEY: described.text()}).getbuffer())
    pool = type(network.pool).__name__
    arch = re.sub(r"^(vgg\d+)_bn", r"\1bn", str(network.arch)) + ("" if pool == "GAP" else f"_{pool}")
    content = {"arch": arch, "epoch": 0, "global_step": 0, "best_prec1": described.score or 0.0}
    content |= {"state_dict": {f"module.{name}": each for name, each in state.items()}}
    return lambda path, described: _put(path, checkpoint_bytes(content | {KEY: described.text()}).getbuffer())


def read_published(path: Path, _network: nn.Module, described: Description) -> nn.Module:
    """As lshfm reads the published code's checkpoints."""
    with silence():  # it would tell of a temporary file
        return described_network(Checkpoint.open(path), described)


FORMATS = {
    "onnx": Format(".onnx", True, make_onnx, read_onnx),
    "pt2": Format(".pt2", True, make_pt2, read_pt2),
    "safetensors": Format(".safetensors", False, make_safetensors, read_safetensors),
    "torchvision": Format(".pth", False, make_torchvision, read_torchvision),
    "timm": Format(".pth", False, make_timm, read_timm),
    "published": Format(".pth", False, make_published, read_published),
}


def weights_of(network: nn.Module, described: Description, layout: str) -> dict[str, Tensor]:
    """The weights in their precision, under the names of a library; "lshfm" keeps them."""
    kind = DTYPES[described.precision]
    state = {
        name: (each.to(kind) if each.is_floating_point() else each).detach().cpu().contiguous().clone()
        for name, each in network.state_dict().items()
    }
    return state if layout == "lshfm" else renamed(state, other_names(layout, network))


def _put(path: Path, data: bytes | memoryview) -> None:
    """The whole of a file, in one write: `path` is a temporary one, whose name no message shows."""
    path.write_bytes(data)


class _Theirs(nn.Module):
    """Another library's network, which gives logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, 0), (B, C)."""
        return images.new_empty(len(images), 0), self.network(images)


def _strictly(network: nn.Module, path: Path) -> nn.Module:
    try:
        network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    except RuntimeError as error:
        raise RunFailed(
            f"the other library's network does not take these weights, so nothing is kept: {error}"
        ) from error
    return network.float().eval()


def require_counterpart(format_: str, network: nn.Module) -> None:
    """Raise InputError, with the reason, where another library that the format is of has no such network."""
    if format_ in LAYOUTS and (reason := why_not(format_, network)):
        raise InputError(f"format={format_}: {reason}; format=safetensors or onnx takes any network")


def _dynamic() -> dict[str, dict[int, Any]]:
    return {"images": {0: torch.export.Dim("batch")}}


@contextmanager
def explained(format_: str, title: str) -> Iterator[None]:
    """What an exporter raises, as an InputError that names the operation."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # torch prints all of a graph
            yield
    except InputError:
        raise
    except Exception as error:
        reasons = _reasons(error)
        found = re.search(r"\b(aten|prims)(\.|::)\w+", " ".join(reasons[:2]))
        first = next(iter(reasons[-1].strip().splitlines()), type(error).__name__)
        what = f"the operation {found[0]} has no counterpart there" if found else f"its code is not followed: {first}"
        raise InputError(f"{title} cannot be exported to {format_}: {what[:300]}") from error


def _reasons(error: BaseException) -> list[str]:
    """What an error says, and what those say that led to it."""
    first = re.sub(r"\x1b\[\d*m", "", str(error))
    return [first, *(_reasons(error.__cause__) if error.__cause__ else [])]
