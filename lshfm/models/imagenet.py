"""torchvision's ImageNet weights: found in torch's hub cache, or downloaded when asked for."""

import http.client
import sys
from pathlib import Path

import torch

from lshfm.checks import weights_file
from lshfm.errors import InputError, parameter
from lshfm.files.read import sha256

URL = "https://download.pytorch.org/models/"

# IMAGENET1K_V1: today's file, then the older one of the same weights, which the published runs start from.
# The digits in a name begin the file's SHA-256.
FILES: dict[str, tuple[str, ...]] = {
    "resnet18": ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": ("resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
    "mobilenet_v2": ("mobilenet_v2-b0353104.pth",),
    "vgg11": ("vgg11-8a719046.pth", "vgg11-bbd30ac9.pth"),
    "vgg16": ("vgg16-397923af.pth",),
    "vgg16_bn": ("vgg16_bn-6c64b313.pth",),
    "vgg19_bn": ("vgg19_bn-c79401a0.pth",),
}


def _files(arch: str) -> tuple[str, ...]:
    if arch not in FILES:
        weights = parameter("weights")
        raise InputError(
            f"there are no ImageNet weights of torchvision for {arch}: "
            f"give {weights}=PATH, or {weights}=none to start from random weights"
        )
    return FILES[arch]


def _checkpoints(hub_dir: Path | None) -> Path:
    return (hub_dir or Path(torch.hub.get_dir())).expanduser() / "checkpoints"


def _hash_prefix(name: str) -> str:
    return Path(name).stem.rpartition("-")[2]


def find_imagenet(arch: str, hub_dir: Path | None = None) -> Path | None:
    """The weights' file, of either generation, in `hub_dir`/checkpoints (torch's hub folder by default).

    Raises InputError if the network has no ImageNet weights, or if the file's SHA-256 is not its name's.
    """
    for name in _files(arch):
        path = _checkpoints(hub_dir) / name
        if path.is_file():
            if not sha256(path).startswith(_hash_prefix(name)):
                raise InputError(
                    f"{path} is damaged (its SHA-256 does not start as its name says): "
                    f"delete it, then {parameter('weights')}=imagenet downloads it again"
                )
            return path
    return None


def imagenet(arch: str, hub_dir: Path | None = None) -> Path:
    """The weights' file, downloaded if the cache lacks it; the file appears only once its hash is checked.

    Raises InputError as `find_imagenet` does, and if the download fails.
    """
    found = find_imagenet(arch, hub_dir)
    if found:
        return found
    name = _files(arch)[0]
    path = _checkpoints(hub_dir) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = sys.stderr.isatty()
        torch.hub.download_url_to_file(URL + name, str(path), _hash_prefix(name), progress)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        weights = parameter("weights")
        raise InputError(
            f"cannot download {URL}{name}: {error}\n"
            f"fetch it by other means into {path.parent}, or give {weights}=PATH or {weights}=none"
        ) from error
    return path


def _no_cached_weights(arch: str) -> InputError:
    weights = parameter("weights")
    return InputError(
        f"no ImageNet weights for {arch} in {_checkpoints(None)}, and nothing is downloaded unasked. Choose\n"
        f"  {weights}=imagenet   download {URL}{_files(arch)[0]}\n"
        f"  {weights}=PATH       start from a file of your own\n"
        f"  {weights}=none       start from random weights"
    )


def resolve(weights: str, arch: str) -> Path | None:
    """The file that `weights` means: none, imagenet, auto (ImageNet weights from the cache) or a path.

    Only "imagenet" may download. Raises InputError if "auto" finds nothing, with the three choices, if a path
    names no file, and as `imagenet` does.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return imagenet(arch)
    if weights == "auto":
        found = find_imagenet(arch)
        if found is None:
            raise _no_cached_weights(arch)
        return found
    return weights_file(parameter("weights"), weights)
