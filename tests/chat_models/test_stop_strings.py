"""An answer ends before its first stop string, wherever it is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.chat_models.stop_strings import StopStrings

letters = st.text(alphabet="ab", max_size=12)


@given(letters, st.lists(letters, max_size=3), st.integers(1, 5))
def test_it_ends_before_the_first(text: str, strings: list[str], size: int) -> None:
    stops = StopStrings(strings)
    shown = "".join(stops.feed(text[at : at + size]) for at in range(0, len(text), size)) + stops.close()
    ends = [text.find(string) for string in strings if string and string in text]
    first = min((at + len(string) for string in strings if string and (at := text.find(string)) >= 0), default=None)
    if first is None:
        assert (shown, stops.is_over) == (text, False)
    else:
        # Where two strings overlap, the one that is complete first ends the answer.
        assert stops.is_over
        assert shown in {text[:end] for end in ends}
