"""The hash functions of a run: kept in its folder, taken from stage 1 where they are the same, or drawn anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lshfm.config.compose import Job
from lshfm.console import Bar, logger, progress
from lshfm.datasets.loader import Loader
from lshfm.engine.evaluate import Predictions, predict
from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint
from lshfm.losses.lsh import HashFunctions, draw_weights, hash_bias, not_finite, teacher_std
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import broadcast, num_ranks, on_main, require_same
from lshfm.tasks import pixels

FUNCTIONS_PER_FEATURE = 32  # the published default
Stored = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What the settings ask of hash functions."""

    num: int
    width: int
    std: float
    seed: int
    rule: str
    views: str

    @classmethod
    def by(cls, job: Job, teacher: Teacher) -> "Wanted":
        """The job's settings, with the published defaults where it has none."""
        loss, width = job.values["loss"], teacher.num_features
        std = loss["std"] or classifier_std(teacher)
        rule = loss["bias"] if loss["form"] == "bce" else "zero"  # the others do not depend on it
        num = loss["hash_num"] or FUNCTIONS_PER_FEATURE * width
        return cls(num, width, std, job.values["seed"], rule, loss["bias_views"] if rule != "zero" else "plain")

    def agrees_with(self, stored: Stored) -> bool:
        """Whether functions that were made before are such; the seed they were drawn from does not matter."""
        names = ("num", "width", "std", "rule", "views")
        return all(stored.get(name) == getattr(self, name) for name in names)


def prepare(
    folder: Path, wanted: Wanted, teacher: Teacher, images: Loader, names: tuple[str, ...], stage1: Stored | None
) -> tuple[HashFunctions, dict[str, Any]]:
    """The run's hash functions, and what checkpoints say of them; made at rank 0 and the same at all.

    images: what the bias is taken over; names: of its split's samples. stage1: what the stage 1 that the student
    starts from says of its own.
    """
    file = folder / "hash.ckpt"
    made: list[HashFunctions] = []  # at rank 0

    def find() -> bool:
        found = _kept(file) if file.is_file() else _from_stage1(wanted, stage1)
        made.extend([found] if found else [])
        return found is not None

    def keep() -> None:
        if not file.is_file():
            write_checkpoint(file, made[0].state() | {"weights": made[0].weights})

    if not on_main(find):
        logger.info(
            "hash functions: %d drawn with deviation %.4g; bias: %s of %d %s images",
            wanted.num, wanted.std, wanted.rule, len(images.indices), wanted.views,
        )  # fmt: skip
        features = None if wanted.rule == "zero" else _features(teacher, images, names)
        on_main(lambda: made.append(_drawn(wanted, features)))
    on_main(keep)
    functions = _shared(made[0] if made else None)
    return functions, functions.state() | {"views": wanted.views}


def _shared(functions: HashFunctions | None) -> HashFunctions:
    """Rank 0's functions at every rank. Raises RunFailed should one have received others."""
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


def _drawn(wanted: Wanted, features: torch.Tensor | None) -> HashFunctions:
    try:
        weights = draw_weights(wanted.num, wanted.width, wanted.std, wanted.seed)
    except (RuntimeError, MemoryError) as error:
        gigabytes = 4 * wanted.num * wanted.width / 1e9
        raise InputError(f"loss.hash_num={wanted.num}: no room in memory for {gigabytes:.1f} GB of weights") from error
    if features is None:
        bias = torch.zeros(wanted.num)
    else:
        with progress("bias of the hash functions") as report:
            bias = hash_bias(features, weights, wanted.rule, report=report)
    return HashFunctions(weights, bias, wanted.std, wanted.seed, wanted.rule)


def _features(teacher: Teacher, images: Loader, names: tuple[str, ...]) -> torch.Tensor | None:
    """The teacher's features (n, D) of every image, once each, on its device; all ranks compute them for rank 0.

    Raises InputError where one is not finite.
    """
    with Bar("teacher features", len(images)) as bar:
        found = predict(teacher, images.epoch(0), precision=teacher.precision, features=True, report=bar.update)
    on_main(lambda: _require_finite(found, names))
    return None if found is None else torch.from_numpy(found.features).to(images.device)


def _require_finite(found: Predictions | None, names: tuple[str, ...]) -> None:
    assert found
    assert found.features is not None
    bad = not_finite(torch.from_numpy(found.features))
    if bad:
        first = ", ".join(names[found.index[row]] for row in bad[:5])
        raise InputError(
            f"the teacher's features are not finite for {len(bad)} of {len(found.features)} images, such as {first}: "
            "its weights or these images are broken, or precision=bf16 is too coarse for it"
        )


def bias_images(data: pixels.TrainingData, values: Mapping[str, Any]) -> Loader:
    """Every training image once, in order: as it is, or as epoch 0 augments it."""
    augmented = values["loss"].get("bias_views") == "augmented"
    batches = data.batches
    view = batches.view if augmented else data.test.view
    return Loader(
        batches.pixels, batches.labels, indices=batches.indices, batch_size=values["eval_batch_size"],
        device=batches.device, view=view, shuffle=False, drop_last=False, seed=batches.seed, share=batches.share,
    )  # fmt: skip
