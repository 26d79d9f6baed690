"""A run's place: its folder and its checkpoint's path, what they hold already, and the run's identity."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import to_yaml
from lshfm.config.keys import Group, key_fields, options_of, plain
from lshfm.config.schema import Mimic, Train, Training
from lshfm.console import logger, shown
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.files.read import sha256
from lshfm.files.write import require_writable, write_text
from lshfm.ranks.group import is_main, on_main, require_same
from lshfm.runs.folder import RunFolder, Status, differing_keys
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
    def of(cls, settings: Train | Mimic, name: str, identity: Mapping[str, Any], *, older: Sequence[str] = ()) -> Self:
        """The place of the run called `name`, the same for all ranks.

        older: what older versions called this run, which stays where one has put it.
        Raises InputError if it cannot be written to, and RunFailed if the ranks see different data.
        """
        require_same(f"the settings or the data of {name}", identity)
        runs = Path(settings.output_dir).expanduser() / settings.command
        name = on_main(lambda: _name_in(runs, name, older, identity))
        folder = runs / name
        checkpoint = Path(settings.checkpoint_dir).expanduser() / f"{name}.ckpt"
        on_main(lambda: require_writable(folder, "output_dir"))
        on_main(lambda: require_writable(checkpoint.parent, "checkpoint_dir"))
        return cls(RunFolder(folder), checkpoint, dict(identity), settings.overwrite)

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
            on_main(lambda: self._enter(stack, settings), "opening the run folder")
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
    return identity | {"data.train": train.fingerprint(), "data.eval": test.fingerprint()}


def weights_identity(weights: str | None) -> str | None:
    """What identifies starting weights: a file's SHA-256, else the word, where auto counts as imagenet."""
    path = Path(str(weights)).expanduser()
    return "imagenet" if weights == "auto" else sha256(path) if path.is_file() else weights
