"""A run's place: its folder and its checkpoint's path, what they hold already, and the run's identity."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import to_yaml
from lshfm.config.groups import Dataset
from lshfm.config.keys import Group, key_fields, options_of, plain
from lshfm.config.schema import Mimic, Train, Training
from lshfm.console import logger, shown
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.files.read import sha256
from lshfm.files.write import require_writable, write_text
from lshfm.ranks.group import is_main, on_main, require_same
from lshfm.runs.folder import KEPT_AS_BEGUN, RunFolder, Status, differing_keys
from lshfm.runs.layout import unpack
from lshfm.runs.log import errors_in, log_in
from lshfm.runs.record import Results


@dataclass(frozen=True)
class RunPlace:
    """A run's folder, its checkpoint's path, and all that can change its numbers."""

    folder: RunFolder
    checkpoint: Path
    identity: dict[str, Any]
    overwrite: bool

    @classmethod
    def of(cls, settings: Train | Mimic, name: str, identity: Mapping[str, Any], *, older: str | None = None) -> Self:
        """The place of the run called `name`, the same for all ranks.

        older: what an older version called this run, which stays where that has put it.
        Raises InputError if it cannot be written to, and RunFailed if the ranks see different data.
        """
        require_same(f"the settings or the data of {name}", identity)
        runs = Path(settings.output_dir).expanduser() / settings.command
        if older and on_main(lambda: not (runs / name).exists() and RunFolder(runs / older).is_of(identity)):
            on_main(lambda: logger.info("an older version called this run %s: it stays there", runs / older))
            name = older
        folder = runs / name
        begun = on_main(lambda: RunFolder(folder).as_begun(identity, overwrite=settings.overwrite))
        checkpoint = Path(settings.checkpoint_dir).expanduser() / f"{name}.ckpt"
        on_main(lambda: require_writable(folder, "output_dir"))
        on_main(lambda: require_writable(checkpoint.parent, "checkpoint_dir"))
        return cls(RunFolder(folder), checkpoint, begun, settings.overwrite)

    def status(self) -> Status:
        """How far the run is: FINISHED only with its checkpoint; for rank 0 to ask.

        Raises InputError where another run is in the way.
        """
        status = self.folder.examine(self.identity, overwrite=self.overwrite)
        if status is Status.NEW:
            self._require_room()
            return status
        self.require_own()
        return status if self.checkpoint.exists() else Status.UNFINISHED

    def as_begun(self, dataset: Dataset) -> Dataset:
        """The data set's settings as they hold for this run: an older version may have begun it."""
        meant = {key.partition(".")[2]: self.identity.get(key) for key in KEPT_AS_BEGUN}
        own = {key: value for key, value in meant.items() if key in dataset.own and value != dataset.own[key]}
        by = meant["holdout_by"] or dataset.holdout_by
        if own or by != dataset.holdout_by:
            shown = ", ".join(f"dataset.{key}={value}" for key, value in [*own.items(), ("holdout_by", by)])
            on_main(lambda: logger.info("an older version began this run: it goes on with %s", shown))
        return replace(dataset, holdout_by=by, own={**dataset.own, **own})

    def way_to_end(self, settings: Train | Mimic) -> str:
        """A clause on how to finish a run by its last epoch that has no best one."""
        folder = self.folder.path
        ending = f"_stage{settings.stage.name}" if isinstance(settings, Mimic) else ""
        if folder.name.endswith(ending):
            name, first = folder.name.removesuffix(ending), ""
        else:
            name, first = "NAME", f"once {folder} is called NAME{ending}, "
        return f"{first}the same command with select=last name={name} finishes the run by its last"

    def is_finished(self) -> bool:
        """Whether there is nothing left to do, which the log then says; all ranks together."""
        finished = on_main(self.status) is Status.FINISHED
        if finished:
            on_main(self._say_finished)
        return finished

    @contextmanager
    def occupied(self, settings: Training) -> Iterator[RunFolder]:
        """The folder, held for this run's ranks while the block runs, with the settings and a log in it.

        Raises InputError as `RunFolder.occupy` does.
        """
        with ExitStack() as stack:
            on_main(lambda: self._enter(stack, settings))
            if not is_main():
                stack.enter_context(errors_in(self.folder.log))
            yield self.folder

    def _enter(self, stack: ExitStack, settings: Training) -> None:
        if self.folder.results.is_file() and not self.checkpoint.exists():
            self.folder.reopen()  # the checkpoint was taken away: finish once more, from last.ckpt
        stack.enter_context(self.folder.occupy(self.identity, overwrite=self.overwrite))
        stack.enter_context(log_in(self.folder.log))
        write_text(self.folder.path / "config.yaml", to_yaml({"options": options_of(settings)} | plain(settings)))

    def _say_finished(self) -> None:
        results = Results.read(self.folder.results)
        logger.info(
            "%s is finished: %s %s; its checkpoint is %s. Nothing to do; overwrite=true trains it again.",
            self.folder.path, results.metric, shown(results.score), self.checkpoint,
        )  # fmt: skip

    def require_own(self) -> None:
        """Refuse to replace another run's checkpoint, unless asked; the run that wrote one may write it again.

        Raises InputError.
        """
        if self.checkpoint.exists() and not self.overwrite:
            identity = unpack(self.checkpoint, whole=False).get("identity")
            if not isinstance(identity, dict) or differing_keys(identity, self.identity):
                self._require_room()

    def _require_room(self) -> None:
        if self.checkpoint.exists() and not self.overwrite:
            raise InputError(
                f"{self.checkpoint} is there already, from another run: name=NAME or checkpoint_dir=DIR keeps both, "
                "overwrite=true replaces it"
            )


def settings_identity(settings: Train | Mimic, train: Split, test: Split) -> dict[str, Any]:
    """All settings that can change a number, under dotted keys, the options of the groups, and the data."""
    flat = flatten(plain(settings))
    identity = {key: value for key, value in flat.items() if changes_results(settings.command, key)}
    for each in key_fields(type(settings)):
        value = getattr(settings, each.name)
        if isinstance(value, Group):
            identity[each.name] = value.option
    if not settings.dataset.holdout:
        identity["dataset.holdout_by"] = None
    return identity | {"data.train": train.fingerprint(), "data.eval": test.fingerprint()}


def weights_identity(weights: str | None) -> str | None:
    """What identifies starting weights: a file's SHA-256, else the word, where auto counts as imagenet."""
    path = Path(str(weights)).expanduser()
    return "imagenet" if weights == "auto" else sha256(path) if path.is_file() else weights
