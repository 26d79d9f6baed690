"""The hash functions of a run: kept in its folder, taken over from stage 1 where they agree, else drawn anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lshfm.config.groups import Hashing
from lshfm.console import Bar, logger, progress
from lshfm.datasets.loader import Loader
from lshfm.engine.evaluate import Predictions, predict
from lshfm.errors import InputError, at
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint
from lshfm.losses.lsh import HashFunctions, draw_weights, drawn_bias, hash_bias, not_finite, teacher_std
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import broadcast, num_ranks, on_main, require_same
from lshfm.tasks.crops import unchanged
from lshfm.tasks.pixels import TrainingData

FUNCTIONS_PER_FEATURE = 32  # the published default
Stored = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """The hash functions that the settings ask for."""

    num: int
    width: int  # of the teacher's feature
    std: float  # of the weights
    seed: int
    rule: str  # for the bias: one of losses.lsh.RULES
    views: str  # images that the bias is computed from, as for `bias_images`

    @classmethod
    def by(cls, settings: Hashing, seed: int, teacher: Teacher) -> "Wanted":
        """From the settings, with the published defaults where they give nothing."""
        width = teacher.num_features
        std = settings.std or classifier_std(teacher)
        rule = settings.bias if settings.form == "bce" else "zero"  # in the forms l1 and l2 the bias cancels
        num = settings.hash_num or FUNCTIONS_PER_FEATURE * width
        return cls(num, width, std, seed, rule, settings.bias_views if rule != "zero" else "plain")

    def agrees_with(self, stored: Stored) -> bool:
        """Whether stored functions have these properties; the seed they were drawn from does not matter."""
        names = ("num", "width", "std", "rule", "views")
        return all(stored.get(name) == getattr(self, name) for name in names)


def prepare(
    folder: Path, wanted: Wanted, teacher: Teacher, images: Loader, names: tuple[str, ...], stage1: Stored | None
) -> tuple[HashFunctions, dict[str, Any]]:
    """The run's hash functions, and their state for checkpoints; made at rank 0 and sent to all ranks.

    images: those that the bias is computed from; names: of their split's samples. stage1: the state of the functions
    of the stage 1 that the student starts from. Raises InputError for a damaged file in `folder`.
    """
    file = folder / "hash.ckpt"
    at_main: list[HashFunctions] = []  # at rank 0

    def find() -> bool:
        kept = _kept(file) if file.is_file() else _from_stage1(wanted, stage1)
        at_main.extend([kept] if kept else [])
        return kept is not None

    def keep() -> None:
        if not file.is_file():
            write_checkpoint(file, at_main[0].state() | {"weights": at_main[0].weights})

    if not on_main(find):
        logger.info(
            "hash functions: %d drawn with deviation %.4g; bias: %s of %d %s images",
            wanted.num, wanted.std, wanted.rule, len(images.indices), wanted.views,
        )  # fmt: skip
        bias = _bias(wanted, teacher, images, names)
        on_main(lambda: at_main.append(_drawn(wanted, bias)), "drawing the hash functions")
    on_main(keep)
    functions = _shared(at_main[0] if at_main else None)
    return functions, functions.state() | {"views": wanted.views}


def _shared(functions: HashFunctions | None) -> HashFunctions:
    """Rank 0's functions at every rank. Raises RunFailed if a rank received different ones."""
    if num_ranks() == 1:
        assert functions
        return functions

    def made_from() -> dict[str, Any]:
        assert functions
        return functions.state() | {"bias": None}

    state = on_main(made_from)
    if functions is None:
        functions = HashFunctions(
            torch.empty(state["num"], state["width"]), torch.empty(state["num"]),
            state["std"], state["seed"], state["rule"],
        )  # fmt: skip
    broadcast(functions.weights)
    broadcast(functions.bias)
    require_same("the hash functions", (functions.sha256(), functions.bias.numpy().tobytes()))
    return functions


def classifier_std(teacher: Teacher) -> float:
    """The deviation of the teacher's classifier weights. Raises InputError if it has no layer of that name."""
    weight = getattr(getattr(teacher.network, "classifier", None), "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise InputError(
            f"{type(teacher.network).__name__} has no layer called 'classifier' whose weights would give the "
            "deviation of the hash functions: give it that attribute"
        )
    with at("loss"):
        return teacher_std(weight)


def _kept(file: Path) -> HashFunctions:
    stored = read_checkpoint(file)
    try:
        made_from = {name: stored[name] for name in ("std", "seed", "rule")}
        functions = HashFunctions(stored["weights"].clone(), stored["bias"].clone(), **made_from)
        if functions.sha256() == stored["sha256"]:
            return functions
    except (KeyError, AttributeError, AssertionError):
        pass
    raise InputError(f"{file} is damaged: delete {file.parent} to start this run anew")


def _from_stage1(wanted: Wanted, stage1: Stored | None) -> HashFunctions | None:
    """Stage 1's functions, drawn again from their seed, where its settings and the drawn bits agree."""
    if stage1 is None:
        return None
    if not wanted.agrees_with(stage1):
        logger.info("stage 1 had other hash functions (number, deviation or bias), or none: they are drawn anew")
        return None
    weights = draw_weights(wanted.num, wanted.width, wanted.std, stage1["seed"])
    functions = HashFunctions(weights, stage1["bias"], wanted.std, stage1["seed"], wanted.rule)
    if functions.sha256() != stage1["sha256"]:
        logger.warning("this version of torch draws other hash functions than stage 1 had: they are drawn anew")
        return None
    logger.info("hash functions: the %d of stage 1", wanted.num)
    return functions


def _bias(wanted: Wanted, teacher: Teacher, images: Loader, names: tuple[str, ...]) -> torch.Tensor | None:
    """The functions' bias by the rule, at rank 0; the features are gone when the weights are drawn to be kept."""
    if wanted.rule == "zero":
        return torch.zeros(wanted.num)
    on_main(lambda: _require_room(wanted))
    features = _features(teacher, images, names)
    biases: list[torch.Tensor] = []

    def compute() -> None:
        assert features is not None
        with progress("bias of the hash functions") as report, at("loss"):
            if wanted.rule == "median":
                biases.append(drawn_bias(features, wanted.num, wanted.std, wanted.seed, report=report))
            else:
                biases.append(hash_bias(features, _weights(wanted), wanted.rule, report=report))

    on_main(compute, "drawing the hash functions")
    return biases[0] if biases else None


def _require_room(wanted: Wanted) -> None:
    """InputError where the weights would not fit into memory."""
    try:
        torch.empty(wanted.num, wanted.width)
    except (RuntimeError, MemoryError) as error:
        raise _no_room(wanted) from error


def _weights(wanted: Wanted) -> torch.Tensor:
    try:
        with at("loss"):
            return draw_weights(wanted.num, wanted.width, wanted.std, wanted.seed)
    except (RuntimeError, MemoryError) as error:
        raise _no_room(wanted) from error


def _no_room(wanted: Wanted) -> InputError:
    gigabytes = 4 * wanted.num * wanted.width / 1e9
    return InputError(f"loss.hash_num={wanted.num}: no room in memory for {gigabytes:.1f} GB of weights")


def _drawn(wanted: Wanted, bias: torch.Tensor | None) -> HashFunctions:
    assert bias is not None
    return HashFunctions(_weights(wanted), bias, wanted.std, wanted.seed, wanted.rule)


def _features(teacher: Teacher, images: Loader, names: tuple[str, ...]) -> torch.Tensor | None:
    """The teacher's features (n, D) of every image, once each, on its device; all ranks compute them for rank 0.

    Raises InputError where one is not finite.
    """
    with Bar("teacher features", len(images)) as bar:
        network, precision = teacher.on_images, teacher.precision
        outputs = predict(network, images.epoch(0), precision=precision, features=True, report=bar.update)
    on_main(lambda: _require_finite(outputs, names))
    return None if outputs is None else torch.from_numpy(outputs.features).to(images.device)


def _require_finite(outputs: Predictions | None, names: tuple[str, ...]) -> None:
    assert outputs
    assert outputs.features is not None
    bad = not_finite(torch.from_numpy(outputs.features))
    if bad:
        first = ", ".join(names[outputs.index[row]] for row in bad[:5])
        raise InputError(
            f"the teacher's features are not finite for {len(bad)} of {len(outputs.features)} images, such as {first}: "
            "its weights or these images are broken, or precision=bf16 is too coarse for it"
        )


def bias_images(data: TrainingData, *, views: str, batch_size: int) -> Loader:
    """Every training image once, in order. views: "plain", as it is, or "augmented", as epoch 0 augments it."""
    batches, is_augmented = data.batches, views == "augmented"
    pixels, view = (batches.pixels, batches.view) if is_augmented else (unchanged(batches.pixels), data.test.view)
    return Loader(
        pixels, batches.labels, indices=batches.indices, batch_size=batch_size, device=batches.device, view=view,
        shuffle=False, drop_last=False, seed=batches.seed, share=batches.share,
    )  # fmt: skip
