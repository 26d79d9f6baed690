"""The parts of the benchmark: each a function of a context to figures, at most three minutes on a GPU."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import arms, data, gates, growth, machine, roofline, tool
from benchmarks.speed.arms import Pair
from benchmarks.speed.photos import make_photos
from benchmarks.speed.published import PublishedStep, images_per_second, loader
from benchmarks.speed.results import failed, ratios, voided
from benchmarks.speed.timing import interleaved, summary

Figures = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What parts share: a folder for pictures and stores, whether all is to be short, and what is known already."""

    folder: Path
    short: bool
    known: dict[str, Any]  # figures of the parts that are finished

    @property
    def size(self) -> int:
        """Pixels along a picture's side."""
        return 32 if self.short else 448 if machine.device().type == "cuda" else 64

    @property
    def photos(self) -> Path:
        """The folder of pictures, made at first use."""
        num = 48 if self.short else 2000 if machine.device().type == "cuda" else 160
        return make_photos(self.folder / f"photos{num}", num, distinct=16 if self.short else 64)

    def limits(self) -> dict[str, float]:
        """What the machine can do; measured now if it was not before."""
        known = self.known.get("machine", {}).get("figures")
        found: dict[str, float] = known or machine.limits(short=self.short)
        return found

    def broken(self) -> set[str]:
        """The gates that do not hold."""
        known = self.known.get("gates", {}).get("figures") or gates.check()
        return failed(known)


Part = Callable[[Context], Figures]


def steps(pair: Pair) -> Part:
    """Every arm of a pair's step on a resident batch."""

    def run(context: Context) -> Figures:
        peaks: dict[str, float | None] = {}
        made: dict[str, Callable[[], object]] = {}
        of = {arm.name: arm for arm in arms.ladder(pair, short=context.short)}
        for name, arm in of.items():
            with arms.peak_memory(peaks, name):
                made[name] = arms.step_of(arm, pair)
                for _ in range(2):
                    made[name]()
        limit = 20.0 if context.short else 100.0
        rounds, each = (2, 1) if context.short else (7, 10 if machine.device().type == "cuda" else 2)
        seconds = interleaved(made, rounds=rounds, steps=each, limit=limit)
        found = {}
        for name, arm in of.items():
            figures = summary(seconds[name], pair.batch) | {"gates": list(arm.gates), "peak_MiB": peaks[name]}
            figures["bound"] = _bound(pair, arm, context)
            found[name] = voided(figures, context.broken())
        made.clear()
        _free()
        return {"arms": ratios(found, "P0", None), "pair": vars(pair)}

    return run


def _bound(pair: Pair, arm: arms.Arm, context: Context) -> float:
    with torch.device("meta"):
        student, teacher = pair.networks()
    taught = None if arm.tape else teacher
    return roofline.bound(taught, student, pair.batch, pair.size, context.limits(), arm.precision, stage=pair.stage)


def _free() -> None:
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def end_to_end(pair: Pair) -> Part:
    """The published loop and loader beside the tool's, from pictures to updated weights."""

    def run(context: Context) -> Figures:
        rates: dict[str, list[float]] = {}
        rounds = 1 if context.short or machine.device().type == "cuda" else 3
        for _ in range(rounds):  # interleaved
            rates.setdefault("P", []).append(_published(pair, context))
            for name, settings in _ways(pair).items():
                command = [*tool.words(pair, context.photos, context.folder), *settings]
                if "teacher_tape=replay" in settings:
                    with _run_folder(context) as folder:
                        tool.seconds_to_end(folder, *(word.replace("=replay", "=record") for word in command))
                with _run_folder(context) as folder:
                    rate = tool.rate(folder, command, epochs=2 if context.short else 3, limit=150)
                rates.setdefault(name, []).append(rate)
        found = {name: summary([pair.batch / rate for rate in own], pair.batch) for name, own in rates.items()}
        of_arms = {name: figures | {"gates": [] if name == "P" else ["pixels", "stage1"]} for name, figures in
                   found.items()}  # fmt: skip
        of_arms = {name: voided(figures, context.broken()) for name, figures in of_arms.items()}
        return {"arms": ratios(of_arms, "P", None), "pair": vars(pair), **_needed(pair, context)}

    return run


def _ways(pair: Pair) -> dict[str, list[str]]:
    ways = {"tool, exact": ["speed=exact", f"epochs={tool.ENDLESS}"]}
    if machine.device().type == "cuda":
        ways["tool, fast"] = ["speed=fast", f"epochs={tool.ENDLESS}"]
    if pair.teacher:
        ways["tool, exact, tape"] = ["speed=exact", "epochs=3", "teacher_tape=replay"]
    return ways


def _published(pair: Pair, context: Context) -> float:
    student, teacher = pair.networks()
    place = machine.device()
    step = PublishedStep(student.to(place), teacher and teacher.to(place), pair.stage)
    batches = loader(context.photos, pair.size, pair.batch, machine.workers())
    return images_per_second(step, batches, place, epochs=2, batch=pair.batch)


@contextmanager
def _run_folder(context: Context) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=context.folder) as folder:
        yield Path(folder)


def _needed(pair: Pair, context: Context) -> Figures:
    """Images a second that the step takes on resident input, over those that the loader gives."""
    resident = context.known.get(f"step_{pair.name}", {}).get("arms", {})
    given = context.known.get("loader", {}).get("figures", {}).get("store, augmented on the device", {})
    fastest = max((arm.get("images_per_second", 0.0) for name, arm in resident.items() if name != "P0"), default=0.0)
    available = given.get("images_per_second")
    return {"data_rate_needed_to_available": round(fastest / available, 4)} if fastest and available else {}


def _figures(measure: Callable[[Context], Figures]) -> Part:
    return lambda context: {"figures": measure(context)}


def pairs(*, short: bool) -> list[Pair]:
    """What is stepped: the issue's pairs at 448 px on a GPU, one small pair on a CPU."""
    if short:
        return [Pair("resnet14", "resnet8", 8, 32, 2)]
    if machine.device().type != "cuda":
        return [Pair("resnet34", "resnet18", 16, 64, stage) for stage in (1, 2)]
    both = [("resnet34", "resnet18", batch) for batch in (16, 64, 256)]
    both += [("resnet101", "resnet50", batch) for batch in (32, 128)] + [("resnet50", "mobilenet_v2", 64)]
    return [Pair(teacher, student, batch, 448, stage) for teacher, student, batch in both for stage in (1, 2)]


def trained(*, short: bool) -> list[Pair]:
    """Networks that are trained without a teacher."""
    if short:
        return [Pair(None, "resnet8", 8, 32, 0)]
    size, batch = (448, 64) if machine.device().type == "cuda" else (64, 16)
    return [Pair(None, student, batch, size, 0) for student in ("mobilenet_v2", "resnet34")]


def parts(*, short: bool) -> dict[str, Part]:
    """All parts by name, in their order."""
    found: dict[str, Part] = {
        "machine": _figures(lambda context: machine.limits(short=context.short)),
        "gates": _figures(lambda _: gates.check()),
        "loader": _figures(lambda context: data.loader(context.photos, context.folder, context.size, context.short)),
        "augmentation": _figures(lambda context: data.augmentation(context.size, context.short)),
        "bias": _figures(lambda context: data.bias(context.short)),
        "evaluation": _figures(lambda context: data.evaluation(context.photos, context.folder, context.size)),
        "startup": _figures(lambda context: growth.startup(context.folder, context.short)),
    }
    of_pairs = pairs(short=short)
    found |= {f"step_{pair.name}": steps(pair) for pair in [*of_pairs, *trained(short=short)]}
    found |= {f"end_to_end_{pair.name}": end_to_end(pair) for pair in [*of_pairs, *trained(short=short)]}
    found |= {f"scaling_{n}": _figures(growth.scaling(n)) for n in growth.sizes(short=short)}
    return found | {"memory": _figures(lambda context: growth.over_epochs(context.folder, context.short))}
