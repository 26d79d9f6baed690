"""A model card: what an exported network is, what it learnt from, how good it is, how to load it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lshfm.errors import printable
from lshfm.shipping.description import Description

LOADING = {
    "onnx": """session = onnxruntime.InferenceSession("{file}")
outputs = session.run(None, {{"images": images}})""",
    "pt2": """program = torch.export.load("{file}")  # of a file that you trust
outputs = program.module()(images)""",
    "safetensors": """weights = safetensors.torch.load_file("{file}")
{build}""",
    "torchvision": """network = torchvision.models.get_model("{arch}", num_classes={num})
network.load_state_dict(torch.load("{file}", weights_only=True))""",
    "timm": """network = timm.create_model("{arch}", num_classes={num}{pool})
network.load_state_dict(torch.load("{file}", weights_only=True))""",
    "published": """checkpoint = torch.load("{file}", weights_only=True)  # arch, state_dict""",
}
BOX_LOADING = {
    "onnx": """session = onnxruntime.InferenceSession("{file}")
boxes, scores, labels = session.run(None, {{"image": image}})""",
}
POOLS = {"GAP": "avg", "GMP": "max", "GWP": "avgmax"}


def card(
    file: Path, format_: str, described: Description, arch: str, figures: Mapping[str, Any],
    definitions: Mapping[str, str] | None = None, *, thing: str, same: str,
) -> str:  # fmt: skip
    """The card as Markdown.

    figures: of the parity check, the speed, the size. definitions: of the task's metrics. thing: what the file is.
    same: how its outputs compare with the checkpoint's.
    """
    parity, classes = figures["parity"], ", ".join(map(_safe, described.classes))
    learnt = described.dataset or "data that its checkpoint does not name"
    rows = [
        ("network", f"{_safe(described.title)}, {figures['parameters'] / 1e6:.2f} M parameters, {described.precision}"),
        ("learnt from", _safe(learnt) + (f", mimicking {_safe(described.teacher)}" if described.teacher else "")),
        ("started from", _safe(described.starting_weights or "not known")),
        ("score", _score(described, definitions or {})),
        ("input", _input(described)),
        ("output", _output(described)),
        ("thresholds", _safe(described.thresholds_chosen or _unchosen(described))),
        ("same as the checkpoint", same),
        *((("score after export", f"{parity['score_after']:.2f}, before {parity['score_before']:.2f}"),)
          if parity["score_after"] is not None else ()),
        *((f"images/s, {name}", str(value)) for name, value in figures.get("bench", {}).items()),
        ("file", f"{figures['bytes'] / 1e6:.1f} MB, SHA-256 {figures['sha256']}"),
        ("licence", _safe(described.licence)),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    return (
        f"# {_safe(file.name)}\n\n{thing} of {len(described.classes)} classes, exported by lshfm "
        f"{described.lshfm}.\n\n| | |\n|---|---|\n{table}\n\nClasses, in the order of the outputs: {classes}.\n\n"
        f"```python\n{_loading(file, format_, described, arch)}\n```\n\nWith lshfm: "
        f"`lshfm.load({file.name!r}).predict('photo.jpg')`" + _note(format_)
    )


def _note(format_: str) -> str:
    if format_ == "pt2":
        return " takes the checkpoint, the safetensors or the ONNX file, not this one: reading it can run code.\n"
    return ".\n" if format_ in ("onnx", "safetensors") else " takes the checkpoint, or a safetensors file.\n"


def _unchosen(described: Description) -> str:
    if described.gives_boxes:
        return "scores from 0.05 on; predict takes those from 0.5 on"
    return "none chosen: 0.5" if described.activation == "sigmoid" else "none: the likeliest classes"


def _score(described: Description, definitions: Mapping[str, str]) -> str:
    if described.score is None:
        return "not known"
    meaning = definitions.get(str(described.metric).partition(" ")[0], "")
    on = f" on {_safe(described.split)}" if described.split else ""
    return f"{described.metric} {described.score:.2f}{on}" + (f": {meaning}" if meaning else "")


def _output(described: Description) -> str:
    if described.gives_boxes:
        return (
            "boxes (k, 4): left, top, right, bottom in the picture's pixels, half open; scores (k,); labels (k,), "
            "places in the list of classes, from 0; best first"
        )
    return f"{', '.join(described.outputs)}; {described.activation} of logits / {described.temperature:g}"


def _input(described: Description) -> str:
    size = described.size
    if described.gives_boxes:
        kind = "uint8 (h, w, 3), RGB" if described.input == "uint8" else (
            f"float32 (3, h, w): RGB / 255, minus {described.mean}, divided by {described.std}"
        )  # fmt: skip
        return f"image: {kind}, one of any size; the network resizes it, its shorter side to {size}"
    resized = f"resized to {size} x {size}"
    if described.fit == "crop":
        resized = f"the short side resized to 256/224 of {size}, the middle {size} x {size} of it"
    if described.input == "uint8":
        return f"images: uint8 (B, {size}, {size}, 3), RGB, {resized}"
    return (
        f"images: float32 (B, 3, {size}, {size}): RGB {resized}, Pillow's bilinear; / 255, "
        f"minus {described.mean}, divided by {described.std}"
    )


def _loading(file: Path, format_: str, described: Description, arch: str) -> str:
    pool = described.network["values"].get("pool")
    pooled = f', global_pool="{POOLS[pool]}"' if pool in POOLS and pool != "GAP" else ""
    build = {
        "torchvision": f'network = torchvision.models.get_model("{arch}", num_classes={len(described.classes)})\n'
        "network.load_state_dict(weights)",
        "timm": f'network = timm.create_model("{arch}", num_classes={len(described.classes)}{pooled})\n'
        "network.load_state_dict(weights)",
    }.get(described.names, "# backbone.* and others: the names of lshfm")
    return (LOADING | (BOX_LOADING if described.gives_boxes else {}))[format_].format(
        file=file.name, arch=arch, num=len(described.classes), pool=pooled, build=build
    )  # fmt: skip


def _safe(text: str) -> str:
    """A text for a cell of a table: names come from other people's files."""
    return printable(text).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
