"""The JSON of a machine's figures: parts that are finished are kept; a failed gate voids what depends on it."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"


@cache
def code_digest() -> str:
    """Of all that parts run: a figure belongs to this code and no other."""
    files = sorted(p for folder in ("lshfm", "conf", "benchmarks/speed") for p in (ROOT / folder).rglob("*"))
    parts = [p.relative_to(ROOT).as_posix().encode() + p.read_bytes() for p in files if p.suffix in {".py", ".yaml"}]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


class Record:
    """A file of figures by part."""

    def __init__(self, path: Path, *, code: str, short: bool) -> None:
        self.path, self.mark = path, {"code": code, "short": short}
        try:
            self.content: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.content = {}
        self.parts: dict[str, Any] = self.content.setdefault("parts", {})

    def has(self, name: str) -> bool:
        """Whether a part is finished, for the code and the length at hand."""
        part = self.parts.get(name, {})
        return all(part.get(key) == value for key, value in self.mark.items()) and "error" not in part

    def keep(self, name: str, figures: Mapping[str, Any], machine: Mapping[str, Any], seconds: float) -> None:
        """Write a part's figures, with the machine as it was, beside the others."""
        self.parts[name] = {**self.mark, "seconds": round(seconds, 1), "machine": dict(machine), **figures}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(self.path)


def failed(gates: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The gates that did not hold; those that do not apply here are none of them."""
    return {name for name, gate in gates.items() if gate["passed"] is False}


def voided(arm: Mapping[str, Any], gates: set[str]) -> dict[str, Any]:
    """An arm's figures; without them, and with the reason, where it needs a gate that failed."""
    broken = sorted(gates & set(arm.get("gates", ())))
    return {"gates": list(arm["gates"]), "void": f"gate {', '.join(broken)} failed"} if broken else dict(arm)


def ratios(arms: Mapping[str, Mapping[str, Any]], published: str, bound: float | None) -> dict[str, dict[str, Any]]:
    """Each arm's figures with its ratio to the published arm and to the roofline."""
    base = arms.get(published, {}).get("images_per_second")
    found = {}
    for name, arm in arms.items():
        rate = arm.get("images_per_second")
        own: dict[str, Any] = {}
        if rate and base:
            own["to_published"] = round(rate / base, 3)
        if rate and arm.get("bound", bound):
            own["to_roofline"] = round(rate / arm.get("bound", bound), 3)
        found[name] = {**arm, **own}
    return found
