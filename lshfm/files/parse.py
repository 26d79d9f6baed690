"""JSON from files that anyone may have written."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds. Raises ValueError for whatever is none, brackets beyond the parser's depth among it."""
    try:
        return json.loads(text)
    except RecursionError as error:  # of other words in every Python
        raise ValueError("brackets are nested too deeply") from error
