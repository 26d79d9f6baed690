"""JSON of anyone's: texts as json reads them, and one kind of error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.files.parse import parse_json

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_what_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 10**5, '{"a":' * 10**5, b"\xff\xfe{"], ids=["empty", "open", "lists", "objects", "bytes"]
)
def test_all_else_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5], ids=["lists", "objects"])
def test_depth_is_told_in_the_same_words_by_every_python(text: str) -> None:
    with pytest.raises(ValueError, match=r"^brackets are nested too deeply$"):
        parse_json(text)
