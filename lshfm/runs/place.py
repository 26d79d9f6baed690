"""A run's place: its folder and its checkpoint's path, what they hold already, and the run's identity."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from lshfm.checks import require_writable
from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import to_yaml
from lshfm.config.groups import Dataset
from lshfm.config.keys import Group, key_fields, options_of, plain
from lshfm.config.schema import Mimic, Train, Training
from lshfm.config.sweep import sweeps_over_epochs
from lshfm.console import logger, shown
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.files.read import sha256
from lshfm.files.write import write_text
from lshfm.ranks.group import is_main, on_main, require_same
from lshfm.runs.extend import log_change, require_room_to_go_on, take_over
from lshfm.runs.folder import KEPT_AS_BEGUN, RunFolder, Status, differing_keys, differs_in_length_alone
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
    takes_over: bool = False  # what a run under another name has done that differs in its number of epochs alone
    is_swept: bool = False  # over numbers of epochs, each of which is a run of its own

    @classmethod
    def of(
        cls, settings: Train | Mimic, name: str, identity: Mapping[str, Any], *, older: Sequence[str] = (),
        typed: Sequence[str] = (),
    ) -> Self:  # fmt: skip
        """The place of the run called `name`, the same for all ranks.

        older: what older versions called this run, which stays where one has put it. typed: the command line.
        Raises InputError if it cannot be written to, and RunFailed if the ranks see different data.
        """
        require_same(f"the settings or the data of {name}", identity)
        runs = Path(settings.output_dir).expanduser() / settings.command
        name = on_main(lambda: _name_in(runs, name, older, identity))
        folder = runs / name
        begun = on_main(lambda: RunFolder(folder).as_begun(identity, overwrite=settings.overwrite))
        checkpoint = Path(settings.checkpoint_dir).expanduser() / f"{name}.ckpt"
        on_main(lambda: require_writable(folder, "output_dir"))
        on_main(lambda: require_writable(checkpoint.parent, "checkpoint_dir"))
        is_swept = sweeps_over_epochs(typed) or not settings.take_over
        takes_over = not (settings.name or settings.overwrite or is_swept)
        return cls(RunFolder(folder), checkpoint, begun, settings.overwrite, takes_over, is_swept)

    def status(self) -> Status:
        """How far the run is: FINISHED only with its checkpoint; for rank 0 to ask.

        Raises InputError where another run is in the way.
        """
        status = self.folder.examine(self.identity, overwrite=self.overwrite)
        if status is Status.NEW:
            self._require_room()
            return status
        if status is Status.OTHER_LENGTH:
            require_room_to_go_on(self.folder, self.identity, is_swept=self.is_swept)
        self.require_own()
        is_unfinished = status is Status.FINISHED and not self.checkpoint.exists()
        return Status.UNFINISHED if is_unfinished else status

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

    def is_finished(self, *, goes_on: bool = False) -> bool:
        """Whether the run is done, which the log then says; all ranks together. goes_on: with a stage 2 behind it."""
        finished = on_main(self.status) is Status.FINISHED
        if finished:
            on_main(lambda: self._say_finished(goes_on=goes_on))
        return finished

    def require_nothing_behind(self, later: str) -> None:
        """InputError where this stage 1 goes on to another length, and the stage 2 `later` started from it; at rank 0.

        That one would find itself at other starting weights once this one has been trained.
        """
        behind = RunFolder(self.folder.path.with_name(later))
        if behind.lasts() and self.status() is Status.OTHER_LENGTH:
            raise InputError(
                f"{behind.path} started from stage 1 as it is, which epochs={self.identity['epochs']} would train on: "
                f"with epochs= as it was, stage2.epochs={self.identity['epochs']} goes on with stage 2 alone; "
                "name=NAME trains both stages under another name, overwrite=true both anew"
            )

    @contextmanager
    def occupied(self, settings: Training) -> Iterator[RunFolder]:
        """The folder, held for this run's ranks while the block runs, with the settings and a log in it.

        Raises InputError as `RunFolder.occupy` does.
        """
        with ExitStack() as stack:
            on_main(lambda: self._enter(stack, settings), "opening the run folder")
            if not is_main():
                stack.enter_context(errors_in(self.folder.log))
            yield self.folder

    def _enter(self, stack: ExitStack, settings: Training) -> None:
        if self.folder.results.is_file() and not self.checkpoint.exists():
            self.folder.reopen()  # the checkpoint was taken away: finish once more, from last.ckpt
        before = self.folder.identity() if self.folder.lasts() else None
        stack.enter_context(self.folder.occupy(self.identity, overwrite=self.overwrite))
        stack.enter_context(log_in(self.folder.log))
        if self.takes_over and not self.folder.lasts():
            before = take_over(self.folder, self.identity)
        if before and self.folder.lasts() and differs_in_length_alone(before, self.identity):
            log_change(self.folder, before, self.identity)
        write_text(self.folder.path / "config.yaml", to_yaml({"options": options_of(settings)} | plain(settings)))

    def _say_finished(self, *, goes_on: bool) -> None:
        then = "Stage 2 follows." if goes_on else "Nothing to do; overwrite=true trains it again."
        results = Results.read(self.folder.results)
        logger.info(
            "%s is finished: %s %s; its checkpoint is %s. %s",
            self.folder.path, results.metric, shown(results.score), self.checkpoint, then,
        )  # fmt: skip

    def require_own(self) -> None:
        """Refuse to replace another run's checkpoint, unless asked; the run that wrote one may write it again.

        Raises InputError.
        """
        if self.checkpoint.exists() and not self.overwrite:
            identity = unpack(self.checkpoint, whole=False).get("identity")
            if not isinstance(identity, dict) or not (self._is_own(identity) or self._is_longer_than(identity)):
                self._require_room()

    def _is_own(self, identity: Mapping[str, Any]) -> bool:
        return not differing_keys(identity, self.identity)

    def _is_longer_than(self, identity: Mapping[str, Any]) -> bool:
        """Whether this run goes on where the one with that identity ended."""
        there = identity.get("epochs")
        is_shorter = isinstance(there, int) and there < self.identity.get("epochs", 0)
        return is_shorter and differs_in_length_alone(identity, self.identity)

    def _require_room(self) -> None:
        if self.checkpoint.exists() and not self.overwrite:
            raise InputError(
                f"{self.checkpoint} is there already, from another run: name=NAME or checkpoint_dir=DIR keeps both, "
                "overwrite=true replaces it"
            )


def _name_in(runs: Path, name: str, older: Sequence[str], identity: Mapping[str, Any]) -> str:
    """What the run is called in the folder of runs: `name`, unless it lies there under an older one."""
    found = next((other for other in older if other != name and RunFolder(runs / other).is_of(identity)), None)
    if found is None or (runs / name).exists():
        return name
    logger.info("an older version called this run %s: it stays there", runs / found)
    return found


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
