"""The table of other tools' spellings, from what the command line answers them with."""

from collections import defaultdict

from lshfm.config.slips import COMMANDS, SYNONYMS


def spellings() -> str:
    """A row for each key of ours, and one for each command."""
    of_keys: dict[str, list[str]] = defaultdict(list)
    for theirs, answers in SYNONYMS.items():
        ours = " or ".join(
            f"`{answer.partition(': ')[0]}`" for answer in answers if ": " not in answer or "=" in answer
        )
        of_keys[ours or answers[0]].append(theirs)
    of_commands: dict[str, list[str]] = defaultdict(list)
    for theirs, answer in COMMANDS.items():
        of_commands[answer.removeprefix("it is ")].append(theirs)
    rows = ["| typed, with or without dashes | here |", "|---|---|"]
    rows += [f"| {' '.join(f'`{name}`' for name in theirs)} | {ours} |" for ours, theirs in of_keys.items()]
    rows += ["", "| command | here |", "|---|---|"]
    rows += [f"| {' '.join(f'`{name}`' for name in theirs)} | {ours} |" for ours, theirs in of_commands.items()]
    return "\n".join(rows)
