"""lshfm export: a trained network as a file for other programs, kept once it is proven to be the same."""

import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm import __version__
from lshfm.config.compose import Job, config_folders
from lshfm.config.early import export_path
from lshfm.config.evaluation import Request
from lshfm.config.groups import Dataset
from lshfm.config.schema import Export
from lshfm.console import logger
from lshfm.datasets.loader import Loader
from lshfm.errors import InputError, RunFailed
from lshfm.files.read import digest, sha256
from lshfm.files.write import replacing, write_json, write_text
from lshfm.metrics.decisions import Decisions
from lshfm.models.folding import fold_batch_norm, fold_projection
from lshfm.runs.checkpoint import Checkpoint
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping.card import card
from lshfm.shipping.checkpoints import checkpoint_network, fit_of, numbered, size_of, task_name, task_of
from lshfm.shipping.description import Description
from lshfm.shipping.formats import Save
from lshfm.shipping.inputs import find_pictures
from lshfm.shipping.kinds import Compared, kind_of
from lshfm.shipping.names import LAYOUTS, arch_there, library_of
from lshfm.shipping.quantise import quantise
from lshfm.shipping.tested import Tested, read_learnt, read_tested
from lshfm.tasks.task import Evaluate, Task, open_task

CPU = torch.device("cpu")


def run(asked: Request[Export]) -> None:
    """Export a checkpoint's network; nothing is kept of an export that is not the same network."""
    checkpoint = Checkpoint.open(asked.checkpoint, config_folders())
    missing = {"model"} - asked.given - checkpoint.options.keys()
    if missing:
        raise InputError(f"{asked.checkpoint} does not say which network it holds: add model=... and dataset=...")
    saved = checkpoint.saved(without=asked.given)
    saved = {key: value for key, value in saved.items() if key.startswith(("dataset.", "model."))}
    _Export(asked.job(checkpoint.options, saved), checkpoint).run()


class _Export:
    """One export: the network as it is and as it is shipped, the images it is checked on, the file."""

    def __init__(self, job: Job[Export], checkpoint: Checkpoint) -> None:
        self.settings, self.checkpoint, self.folders = job.settings, checkpoint, job.folders
        self.path = export_path(vars(self.settings), checkpoint.path)
        dataset = self.settings.dataset
        self.task: Task = open_task(dataset, job.folders) if dataset.option else task_of(checkpoint, job.folders)
        self.kind = kind_of(self.task, task_name(checkpoint), self.settings)
        self.tested = None if self.settings.images else self._read(dataset)
        given = self.tested.split.classes if self.tested else None
        self.classes = checkpoint.classes or given or tuple(numbered(checkpoint.path))
        size = dataset.size if dataset.option and dataset.size else size_of(checkpoint)
        self.network = checkpoint_network(checkpoint, self.classes, size, built_as=self.settings.model, task=self.task)
        self.shipped = copy.deepcopy(self.network) if self.settings.feature else fold_projection(self.network)
        self.kind.require_counterpart(self.settings.format, self.shipped)
        self.format = self.kind.formats[self.settings.format]
        self.description = self._described(size)

    def run(self) -> None:
        """Write, check, keep."""
        settings, figures = self.settings, dict[str, Any]()
        evaluate = self._evaluate()
        with replacing(self.path) as temporary:
            save = self._quantised() if settings.precision == "int8" else self._made()
            save(temporary, self.description)
            exported = self.format.back(temporary, self.shipped, self.description)
            pair = self.network, exported
            parity = self.kind.compare(evaluate, pair, self.description)
            self._require(parity)
            if settings.bench:
                figures["bench"] = self.kind.bench(pair, settings, self.description.size)
            self.description = replace(self.description, parity=parity.record())
            save(temporary, self.description)
        figures |= {
            "parity": parity.record(), "bytes": self.path.stat().st_size, "sha256": sha256(self.path),
            "parameters": sum(each.numel() for each in self.network.parameters()),
        }  # fmt: skip
        self._write_beside(parity, figures)
        self._say(parity, figures)

    def _graph(self) -> nn.Module:
        """What is exported: of a graph, BatchNorm is folded where torch.fx can follow the network."""
        if not self.format.is_graph:
            return self.shipped
        folded = fold_batch_norm(self.shipped)
        if folded is None:
            logger.info("BatchNorm stays as it is: torch.fx cannot follow this network")
        return folded or self.shipped

    def _made(self) -> Save:
        return self.format.make(self._graph(), self.description)

    def _quantised(self) -> Save:
        """Static quantisation of the fp32 file, calibrated on images that training learnt from."""
        settings = self.settings
        if settings.format != "onnx":
            raise InputError(f"precision=int8 is for format=onnx, not {settings.format}")
        if not settings.dataset.option:
            raise InputError("precision=int8 is calibrated on training images: add dataset=... dataset.root=DIR")
        train = self._known(read_learnt(self.task, self.checkpoint, settings.dataset))
        with TemporaryDirectory() as folder:
            source = Path(folder, "fp32.onnx")
            self._made()(source, self.description)
            loader = self._loader(train, settings.calibration_images)
            return quantise(source, loader.epoch(0), self.description)

    def _require(self, parity: Compared) -> None:
        """Raise RunFailed for an export that is not the same network."""
        settings = self.settings
        if settings.precision != "int8":
            self.kind.require_same(parity, settings)
            return
        if parity.drop is None:
            raise InputError("precision=int8 is kept by its score: it needs the data set, not images=")
        if parity.drop > settings.max_drop:
            raise RunFailed(
                f"int8 lowers {parity.metric} by {parity.drop:.2f}, more than max_drop={settings.max_drop}; "
                f"nothing is kept ({parity.words})"
            )

    def _read(self, dataset: Dataset) -> Tested:
        """A data set's images to test on. Raises InputError where there are none, saying what else is possible."""
        if not dataset.option or dataset.eval_split is None:
            raise InputError(
                "an export is checked on real images before it is kept: add images=FOLDER, or dataset=... "
                "dataset.root=DIR"
            )
        try:
            tested = read_tested(self.task, self.checkpoint, dataset)
        except InputError as error:
            raise InputError(f"{error}\nAn export is checked on real images: images=FOLDER are others") from error
        return self._known(tested)

    def _known(self, images: Tested) -> Tested:
        """Images whose classes are those that the network knows. Raises InputError for others."""
        if differs := self.checkpoint.class_mismatch(images.split.classes, self.settings.dataset.name):
            raise InputError(f"{self.checkpoint.path} was {differs}")
        return images

    def _loader(self, tested: Tested, most: int | None) -> Loader:
        """Batches of the images, at most so many, spread evenly over them."""
        dataset, workers, batch = self.settings.dataset, self.settings.workers, self.kind.batch
        whole = tested.batches(self.task, dataset, CPU, workers=workers, batch_size=batch, channels_last=False)
        return _spread(whole, most)

    def _evaluate(self) -> Evaluate:
        """The evaluator on the images of the check."""
        settings, dataset = self.settings, self.settings.dataset
        if self.tested:
            loader = self._loader(self.tested, settings.check_images)
            return self.task.evaluator(loader, self.tested.split, dataset.metric, "fp32")
        paths = find_pictures(str(settings.images))
        labels = self.task.no_labels(len(paths), len(self.classes))
        split, loader = self.kind.of_pictures(paths, self.classes, labels, self.description)
        return self.task.evaluator(_spread(loader, settings.check_images), split, self.task.metrics[0], "fp32")

    def _described(self, size: int) -> Description:
        settings, content = self.settings, self.checkpoint.content or {}
        mean, std = self.checkpoint.normalisation_on(settings.dataset)
        network = settings.model
        values = {
            name: value for name, value in network.without_code().items() if name not in ("weights", "path", "init")
        }
        if not settings.feature:
            values.pop("projection", None)
        chosen = Thresholds.of(self.checkpoint.path, lambda: digest(self.network.state_dict()))
        activation = self.task.activation or ""
        decisions = chosen.decisions(activation) if chosen else Decisions(activation)
        names = library_of(self.shipped)
        is_onnx = settings.format == "onnx"
        return Description(
            lshfm=__version__, title=network.title, network={"option": network.option, "values": values},
            task=task_name(self.checkpoint), activation=decisions.activation, classes=list(self.classes), size=size,
            mean=list(mean), std=list(std), fit=fit_of(self.checkpoint), precision=settings.precision, names=names,
            input="uint8" if settings.uint8 else "normalised",
            outputs=self.kind.outputs(settings), from_random=self.checkpoint.saw_only_its_data,
            category_ids=content.get("category_ids"),
            opset=settings.opset if is_onnx else None,
            thresholds=None if decisions.thresholds is None else list(decisions.thresholds),
            thresholds_chosen=chosen.words if chosen else None, temperature=decisions.temperature,
            dataset=content["dataset"]["values"]["name"] if content else None, split=content.get("split"),
            metric=content.get("metric"), score=content.get("score"),
            teacher=(content.get("teacher") or {}).get("name"), starting_weights=self.checkpoint.starting_weights,
            weights_sha256=digest(self.network.state_dict()), licence=settings.licence or _LICENCE,
        )  # fmt: skip

    def _write_beside(self, parity: Compared, figures: dict[str, Any]) -> None:
        """The card, and the figures for programs."""
        layout = self.settings.format if self.settings.format in LAYOUTS else self.description.names
        arch = arch_there(layout, self.network)
        text = card(
            self.path, self.settings.format, self.description, arch, figures, self.task.definitions,
            thing=self.kind.thing, same=f"on {figures['parity']['images']} images {parity.difference}",
        )  # fmt: skip
        write_text(self.path.with_name(f"{self.path.name}.md"), text)
        write_json(self.path.with_name(f"{self.path.name}.json"), {"description": vars(self.description)} | figures)

    def _say(self, parity: Compared, figures: dict[str, Any]) -> None:
        logger.info("%s", parity.words)
        for name, value in figures.get("bench", {}).items():
            logger.info("%s: %s images/s", name, value)
        before = sum(each.numel() * each.element_size() for each in self.network.state_dict().values())
        logger.info(
            "written to %s: %.1f MB (the weights in fp32 are %.1f MB), with %s.md and %s.json beside it",
            self.path, figures["bytes"] / 1e6, before / 1e6, self.path.name, self.path.name,
        )  # fmt: skip


_LICENCE = (
    "the code of lshfm is under the Apache License 2.0; the weights were learnt from other people's images, "
    "whose terms hold for them"
)


def _spread(loader: Loader, most: int | None) -> Loader:
    """The loader of at most so many of its images, evenly spread."""
    if most is None or len(loader.indices) <= most:
        return loader
    part = copy.copy(loader)
    part.indices = loader.indices[np.linspace(0, len(loader.indices) - 1, most).round().astype(np.int64)]
    return part
