"""The streamed text is the readable text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.gen.events import CaptionClosed, CaptionOpened, GenEvent, GenNotice, TextPiece, readable_text
from mgem_agent.gen.readable_stream import ReadableStream

events = st.lists(
    st.one_of(
        st.text(alphabet="ab \n\t", min_size=1, max_size=5).map(TextPiece),
        st.sampled_from([CaptionOpened(), CaptionClosed("a fox"), GenNotice("stray_closing_tag")]),
    ),
    max_size=12,
)


@given(events)
def test_it_is_that_of_all_events_at_once(given_events: list[GenEvent]) -> None:
    stream = ReadableStream()
    assert "".join(map(stream.feed, given_events)) == readable_text(given_events)
