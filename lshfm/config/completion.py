"""Tab: scripts for shells, and the words that can stand where the cursor is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from lshfm.config import schema
from lshfm.config.catalogue import group_folder, groups, in_order, option_node, options
from lshfm.config.check import is_group, key_types
from lshfm.config.keys import key_fields
from lshfm.config.recipes import recipe_command
from lshfm.config.sweeping import sweep_keys
from lshfm.config.words import SHORT, THRESHOLDS, folders_of
from lshfm.errors import InputError

FLAGS = ("--help", "-m", "--cfg", "--config-dir")
SCRIPTS = {
    "bash": r"""# lshfm completion bash >> ~/.bashrc
_lshfm() {
    local line="${COMP_LINE:0:$COMP_POINT}" words word prefix
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word="${words[-1]}"
    mapfile -t COMPREPLY < <("${words[0]}" --complete "${words[@]:1}" 2> /dev/null)
    # What follows the last = or : is what bash replaces.
    prefix="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2> /dev/null
    return 0
}
complete -o default -F _lshfm lshfm
""",
    "zsh": r"""#compdef lshfm
# lshfm completion zsh > DIR/_lshfm, DIR one of $fpath; or in ~/.zshrc: source <(lshfm completion zsh)
_lshfm() {
    local -a found
    found=(${(f)"$(${words[1]} --complete "${(@)words[2,CURRENT]}" 2> /dev/null)"})
    (( $#found )) || { _files; return }
    compadd -S '' -- ${(M)found:#*=}
    compadd -- ${found:#*=}
}
(( $+functions[compdef] )) && compdef _lshfm lshfm
""",
    "fish": r"""# lshfm completion fish > ~/.config/fish/completions/lshfm.fish
function __lshfm_words
    set -l found (lshfm --complete (commandline -opc)[2..] (commandline -ct) 2> /dev/null)
    if test -n "$found"
        printf '%s\n' $found
    else
        set -l key (string match -r '^.*=|^' -- (commandline -ct))
        __fish_complete_path (string sub -s (math (string length -- "$key") + 1) -- (commandline -ct)) | \
            string replace -r '^' -- "$key"
    end
end
complete -c lshfm -f -a '(__lshfm_words)'
""",
}


EXPLANATION = """usage: lshfm completion bash|zsh|fish

Prints a script that makes Tab complete commands, groups, options and keys:
  bash   lshfm completion bash >> ~/.bashrc
  zsh    lshfm completion zsh > DIR/_lshfm, DIR one of $fpath
  fish   lshfm completion fish > ~/.config/fish/completions/lshfm.fish
"""


def script(words: Sequence[str]) -> str:
    """The script for the shell that is named, or an explanation. Raises InputError for any other words."""
    if {"-h", "--help"} & set(words):
        return EXPLANATION
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise InputError(f"lshfm completion takes one of {', '.join(SCRIPTS)}, and got {' '.join(words) or 'nothing'}")
    return SCRIPTS[words[0]]


def candidates(words: Sequence[str], commands: Sequence[str]) -> list[str]:
    """What the last word can become; words: those after lshfm, up to the cursor."""
    if len(words) < 2:
        found = [*commands, "help", "completion", "--help", "--version"]
    elif words[0] in schema.COMMANDS:
        found = list(_of_command(words[0], words[1:]))
    else:
        found = list(SCRIPTS) if words[0] == "completion" else list(commands) if words[0] == "help" else []
    return [word for word in dict.fromkeys(found) if word.startswith(words[-1] if words else "")]


def _of_command(command: str, words: Sequence[str]) -> Iterator[str]:
    name, equals, value = words[-1].partition("=")
    typed = dict(word.split("=", 1) for word in words[:-1] if "=" in word)
    if equals:
        front = value.rpartition(",")[0]  # of a sweep, or of several losses
        yield from (f"{name}={front}{',' * bool(front)}{each}" for each in _values(command, name, words))
        return
    yield from (f"{group}=" for group in groups(command))
    yield from (f"{key}=" for key in _keys(command, typed, words))
    yield from (f"{key}=" for key in sweep_keys(command))
    yield from (f"{key}=" for key in ("settings",) if "epochs" in key_types(schema.COMMANDS[command]))
    yield from FLAGS


def _values(command: str, name: str, words: Sequence[str]) -> list[str]:
    """The options of a group, the choices of a key; none where a file or a number is to be typed."""
    if name in groups(command):
        known = in_order(options(_folder(command, name), folders_of(words)))
        return [each for each in known if name != "experiment" or recipe_command(each) in (command, None)]
    if name == "sweep":
        return options(name, folders_of(words))
    field, hint = _fields(schema.COMMANDS[command]).get(SHORT.get(name, name), (None, None))
    if name == "thresholds" and command == "eval":
        return list(THRESHOLDS)
    if field is None:
        return []
    return list(field.metadata["choices"]) or (["true", "false"] if hint is bool else [])


def _folder(command: str, group: str) -> str:
    return "model" if group == "teacher" else group_folder(command, group)


def _keys(command: str, typed: Mapping[str, str], words: Sequence[str]) -> Iterator[str]:
    """The keys of a command, those of the options that were typed among them."""
    hidden = {"recipe", "published", "stage1", "stage2"}
    for name in _fields(schema.COMMANDS[command]):
        if name not in hidden and not name.endswith(".preset"):
            yield name
    for group in (group for group in groups(command) if group in typed and group != "experiment"):
        try:
            node = option_node(_folder(command, group), typed[group], folders_of(words))
        except InputError:
            continue
        yield from (
            f"{group}.{key}" for key, value in node.items() if key not in ("_target_", "preset") and value != {}
        )


def _fields(keys: type, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys that can be typed, each with its field and type."""
    found: dict[str, tuple[Any, Any]] = {}
    for each in key_fields(keys):
        hint = key_types(keys)[each.name]
        if is_dataclass(hint) and isinstance(hint, type):
            inner = prefix if each.metadata.get("is_part") else f"{prefix}{each.name}."
            found |= _fields(hint, inner)
        elif not is_group(hint):
            found[f"{prefix}{each.name}"] = each, hint
    return found
