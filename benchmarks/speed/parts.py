"""The parts of the benchmark: each a function of a context to figures, at most three minutes on a GPU."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import arms, cifar, data, detection, gates, growth, machine, opening, roofline, tool
from benchmarks.speed.arms import Pair
from benchmarks.speed.photos import make_photos
from benchmarks.speed.published import PublishedStep, images_per_second, loader
from benchmarks.speed.results import failed, ratios, voided
from benchmarks.speed.timing import fits, interleaved, summary

Figures = dict[str, Any]
SECONDS = 150.0  # of a part's three minutes, after which no round of arms begins


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
        found: dict[str, float] = self.known.get("machine", {}).get("figures") or self._limits
        return found

    def broken(self) -> set[str]:
        """The gates that do not hold."""
        return failed(self.known.get("gates", {}).get("figures") or self._gates)

    @cached_property
    def _limits(self) -> dict[str, float]:
        return machine.limits(short=self.short)

    @cached_property
    def _gates(self) -> dict[str, gates.Gate]:
        return gates.check()


Part = Callable[[Context], Figures]


def steps(pair: Pair) -> Part:
    """Every arm of a pair's step on a resident batch."""

    def run(context: Context) -> Figures:
        begun, peaks = time.monotonic(), dict[str, float | None]()
        limits, broken = context.limits(), context.broken()
        of = {arm.name: arm for arm in arms.ladder(pair, short=context.short)}
        with machine.tried_algorithms():
            made = _made(of, pair, peaks)
            limit = 20.0 if context.short else SECONDS - (time.monotonic() - begun)
            rounds, each = (2, 1) if context.short else (7, 10) if machine.device().type == "cuda" else (5, 2)
            seconds = interleaved(made, rounds=rounds, steps=each, limit=limit)
        found = dict[str, Figures]()
        for name, arm in of.items():
            if why := made[name].lacks if name in seconds else "out of the GPU's memory":
                found[name] = {"gates": list(arm.gates), "void": why}
                continue
            figures = summary(seconds[name], pair.batch) | {"gates": list(arm.gates), "peak_MiB": peaks[name]}
            figures["bound"] = _bound(pair, arm, limits)
            found[name] = voided(figures, broken)
        made.clear()
        _free()
        return {"arms": ratios(found, "P0", None), "pair": vars(pair)}

    return run


def _made(of: dict[str, arms.Arm], pair: Pair, peaks: dict[str, float | None]) -> dict[str, arms.Made]:
    """The arms' steps, each done twice; without those for which the GPU's memory is too small."""
    pool = torch.cuda.graph_pool_handle() if machine.device().type == "cuda" else None
    made: dict[str, arms.Made] = {}

    def make(name: str) -> None:
        with arms.peak_memory(peaks, name):
            step = arms.step_of(of[name], pair, pool)
            step(), step()
        made[name] = step

    for name in of:
        fits(partial(make, name))
    return made


def _bound(pair: Pair, arm: arms.Arm, limits: dict[str, float]) -> float:
    with torch.device("meta"):
        student, teacher = pair.networks()
    taught = None if arm.tape else teacher
    return roofline.bound(taught, student, pair.batch, pair.size, limits, arm.precision, stage=pair.stage)


def _free() -> None:
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def end_to_end(pair: Pair) -> Part:
    """The published loop and loader beside the tool's, from pictures to updated weights."""

    def run(context: Context) -> Figures:
        rates, without = dict[str, list[float]](), dict[str, list[str]]()
        rounds, ways = 1 if context.short or machine.device().type == "cuda" else 2, _ways(pair)
        for number in range(rounds):  # interleaved
            rates.setdefault("P", []).append(_published(pair, context))
            _free()  # the tool has the same GPU
            for name, way in ways.items():
                command = [*tool.words(pair, context.photos, context.folder), *way.settings]
                if way.arm.tape and number == 0:
                    with _run_folder(context) as folder:
                        tool.seconds_to_end(folder, *(word.replace("=replay", "=record") for word in command))
                with _run_folder(context) as folder:
                    rate = tool.rate(folder, command, epochs=2 if context.short else 3, limit=150)
                    without[name] = tool.goes_without(folder)
                rates.setdefault(name, []).append(rate)
        limits, broken = context.limits(), context.broken()
        found, ways = {}, {"P": Way([], arms.Arm("P", published=True)), **ways}
        for name, own in rates.items():
            figures = summary([pair.batch / rate for rate in own], pair.batch) | {"gates": list(ways[name].arm.gates)}
            figures["bound"] = _bound(pair, ways[name].arm, limits)
            found[name] = voided(figures, broken) | {"goes_without": without.get(name, [])}
            found[name] |= _to_resident(found[name], ways[name].arm, pair, context)
        return {"arms": ratios(found, "P", None), "pair": vars(pair), **_needed(pair, context)}

    return run


def _to_resident(figures: Figures, arm: arms.Arm, pair: Pair, context: Context) -> Figures:
    """Images a second over those of the same step on input that is there already."""
    steps = context.known.get(f"step_{pair.name}", {}).get("arms", {})
    step = steps.get("+ tape" if arm.tape else arm.name, {}).get("images_per_second")
    rate = figures.get("images_per_second")
    return {"to_resident": round(rate / step, 3)} if rate and step else {}


@dataclass(frozen=True)
class Way:
    """Settings of the tool, and the arm whose step they come to."""

    settings: list[str]
    arm: arms.Arm


def _ways(pair: Pair) -> dict[str, Way]:
    exact = arms.Arm("exact fp32")
    ways = {"tool, exact": Way(["speed=exact", f"epochs={tool.ENDLESS}"], exact)}
    if machine.device().type == "cuda":
        fast = [arm for arm in arms.ladder(pair, short=False) if not arm.tape][-1]
        ways["tool, fast"] = Way(["speed=fast", f"epochs={tool.ENDLESS}"], fast)
    if pair.teacher:
        tape = replace(exact, tape=True)
        ways["tool, exact, tape"] = Way(["speed=exact", "epochs=3", "teacher_tape=replay"], tape)
    return ways


def _published(pair: Pair, context: Context) -> float:
    student, teacher = pair.networks()
    place = machine.device()
    step = PublishedStep(student.to(place), teacher and teacher.to(place), pair.stage)
    batches = loader(context.photos, pair.size, pair.batch, machine.workers())
    with machine.tried_algorithms():
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
    """What is stepped: the published pairs at 448 px on a GPU, one small pair on a CPU."""
    if short:
        return [Pair("resnet14", "resnet8", 8, 32, stage) for stage in (1, 2)]
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
        "opening": _figures(lambda context: opening.seconds(context.folder, 200 if context.short else 82_081)),
    }
    of_pairs = pairs(short=short)
    found |= {f"step_{pair.name}": steps(pair) for pair in [*of_pairs, *trained(short=short)]}
    found |= {f"end_to_end_{pair.name}": end_to_end(pair) for pair in [*of_pairs, *trained(short=short)]}
    found["cifar_train"] = lambda context: cifar.training(context.folder, context.short)
    found["detection_step"] = lambda context: detection.step(context.folder, context.short)
    found["detection_train"] = lambda context: detection.training(context.folder, context.short)
    found["detection_eval"] = lambda context: detection.evaluation(context.folder, context.short)
    found["retinanet_lsh"] = _figures(detection.term)
    found |= {f"scaling_{n}": _figures(growth.scaling(n)) for n in growth.sizes(short=short)}
    for ranks in (1, 2):
        found[f"memory_{ranks}"] = _figures(partial(_memory, ranks))
    return found


def _memory(ranks: int, context: Context) -> Figures:
    return growth.over_epochs(context.folder, ranks, short=context.short)
