"""lshfm train: one classifier on labels alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lshfm import device
from lshfm.commands import parts
from lshfm.commands.finished import unpack
from lshfm.commands.naming import network_name, train_name
from lshfm.commands.training import Training
from lshfm.config.build import build
from lshfm.config.compose import Job, changes_results, compose, flatten
from lshfm.console import logger, shown
from lshfm.datasets.loader import holdout
from lshfm.datasets.split import Split
from lshfm.engine.files import require_writable
from lshfm.engine.run import RunFolder, Status
from lshfm.engine.state import State, make_optimizer
from lshfm.errors import InputError
from lshfm.models.files import sha256
from lshfm.objectives.supervised import Supervised


def run(overrides: Sequence[str]) -> None:
    """Train as `overrides` say, continue an unfinished run, or say that it is finished."""
    job = compose("train", overrides)
    values, dataset = job.values, job.values["dataset"]
    where = device.choose(values["gpus"])
    train, test = parts.read_splits(dataset, [dataset["train_split"], dataset["eval_split"]])
    _check(values, len(train))
    name = train_name(job)
    folder = RunFolder(Path(values["output_dir"]).expanduser() / "train" / name)
    checkpoint = Path(values["checkpoint_dir"]).expanduser() / f"{name}.ckpt"
    require_writable(folder.path, "output_dir")
    require_writable(checkpoint.parent, "checkpoint_dir")
    identity = _identity(job, train, test)
    status = folder.examine(identity, overwrite=values["overwrite"])
    if status is Status.FINISHED and not checkpoint.exists():
        folder.results.unlink()  # the checkpoint was taken away: finish once more, from last.ckpt
        status = Status.UNFINISHED
    if status is Status.FINISHED:
        _say_finished(folder, checkpoint)
        return
    _refuse_to_replace(checkpoint, identity, status, overwrite=values["overwrite"])
    device.prepare(where, deterministic=values["deterministic"])
    torch.manual_seed(values["seed"])
    state = _state(job, train.classes, where)
    data = parts.TrainingData.open(train, test, values, where)
    Training(job, folder, checkpoint, state, data, hardware=device.describe(where, values["precision"])).execute(
        identity
    )


def _check(values: dict[str, Any], num_images: int) -> None:
    """What no single key can say. Raises InputError."""
    batch, cosine, dataset = values["batch_size"], values["schedule"]["cosine_epochs"], values["dataset"]
    if batch % values["accumulate"]:
        raise InputError(f"accumulate={values['accumulate']} must divide batch_size={batch}")
    if batch > num_images:
        raise InputError(f"batch_size={batch} is more than the {num_images} images of {dataset['train_split']}")
    parts.make_view(dataset, values["augment"], channels_last=values["channels_last"])
    holdout(num_images, dataset["holdout"])
    if 0 < cosine < values["epochs"]:
        raise InputError(f"schedule.cosine_epochs={cosine:g} must be 0 or at least epochs={values['epochs']}")
    if values["select"] == "best" and not dataset["holdout"] and not values["allow_test"]:
        raise InputError(
            f"select=best would choose the epoch by the test split ({dataset['eval_split']}), which flatters the "
            "result: add dataset.holdout=0.1 to choose on a part of the training split, or allow_test=true"
        )


def _identity(job: Job, train: Split, test: Split) -> dict[str, Any]:
    """All that can change a number of this run, under dotted keys."""
    keys = flatten(job.values)
    identity = {key: value for key, value in keys.items() if changes_results("train", key)}
    identity |= {group: job.choices[group] for group in ("dataset", "model", "loss")}
    identity |= {"data.train": train.fingerprint(), "data.eval": test.fingerprint()}
    weights = keys.get("model.weights", "none")
    path = Path(str(weights)).expanduser()
    identity["model.weights"] = "imagenet" if weights == "auto" else sha256(path) if path.is_file() else weights
    return identity


def _say_finished(folder: RunFolder, checkpoint: Path) -> None:
    try:
        results = json.loads(folder.results.read_text())
    except ValueError as error:
        raise InputError(f"{folder.results} is damaged: delete it, and the same command writes it anew") from error
    logger.info(
        "%s is finished: %s %s; its checkpoint is %s. Nothing to do; overwrite=true trains it again.",
        folder.path, results["metric"], shown(results["score"]), checkpoint,
    )  # fmt: skip


def _refuse_to_replace(checkpoint: Path, identity: dict[str, Any], status: Status, *, overwrite: bool) -> None:
    """Finished checkpoints are replaced only when asked; the run that wrote one may write it again."""
    if overwrite or not checkpoint.exists():
        return
    if status is Status.UNFINISHED and unpack(checkpoint).get("identity") == identity:
        return
    raise InputError(
        f"{checkpoint} is there already, from another run: name=NAME or checkpoint_dir=DIR keeps both, "
        "overwrite=true replaces it"
    )


def _state(job: Job, classes: Sequence[str], where: torch.device) -> State:
    """Network, objective and optimiser, ready to train."""
    values, size = job.values, job.values["dataset"]["size"]
    network, loaded = parts.build_network(values["model"], classes, size)
    parts.check_batch_norm(network, size, values["batch_size"] // values["accumulate"])
    logger.info(
        "%s: %.2f M parameters, feature width %d; weights: %s",
        network_name(job), sum(p.numel() for p in network.parameters()) / 1e6, network.num_features,
        loaded.describe() if loaded else "random",
    )  # fmt: skip
    loss = {name: value for name, value in values["loss"].items() if name != "name"}
    name = str(values["loss"].get("name") or job.choices["loss"])
    objective = Supervised(
        parts.place(network, where, values),
        build(loss),
        name,
        freeze=values["freeze"],
        precision=values["precision"],
    )
    optimizer = make_optimizer(
        objective, values["optimizer"], momentum=values["momentum"], weight_decay=values["weight_decay"]
    )
    return State(objective, optimizer, ema=values["ema"])
