"""Names of sessions as parts of addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.errors import InputError
from mgem_agent.server.page.session_key import session_key, session_name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_name_comes_back_and_is_one_part_of_an_address(name: str) -> None:
    key = session_key(name)
    assert session_name(key) == name
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", key) and key not in (".", "..")


@pytest.mark.parametrize("key", ["", "..", "a/b", "~!!", "~/w", "ü"])
def test_other_addresses_are_refused(key: str) -> None:
    with pytest.raises(InputError, match="is not the address of a chat"):
        session_name(key)
