"""How cost grows with the number of images: time of an image, memory and start-up, drawn as SVG."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Curves = Mapping[str, Callable[[Mapping[str, Any]], float]]
PANELS: tuple[tuple[str, str, Curves], ...] = (  # title, unit, curves: of a part's figures
    ("time of an image in training", "ms", {"": lambda figures: 1000 / figures["images_per_second"]}),
    ("host memory at the first step", "MiB", {"": lambda figures: figures["memory_MiB"]}),
    ("until the first step", "s", {
        "first start, which decodes all": lambda figures: figures["first start"],
        "second start": lambda figures: figures["second start"],
    }),
)  # fmt: skip


def growth(parts: Mapping[str, Any], path: Path) -> bool:
    """Draw the parts called scaling_* to an SVG file; False where there are fewer than two."""
    found = [part["figures"] for name, part in parts.items() if name.startswith("scaling_") and "figures" in part]
    found.sort(key=lambda figures: figures["images"])
    if len(found) < 2:
        return False
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "lshfm"  # the same file for the same figures
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    images = [figures["images"] for figures in found]
    for axes, (title, unit, curves) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for name, value in curves.items():
            axes.plot(images, [value(figures) for figures in found], marker="o", label=name)
        axes.set(title=title, xlabel="images", ylabel=unit, xscale="log")
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend()
    figure.savefig(path, metadata={"Date": None})
    return True
