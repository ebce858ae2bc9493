"""Templates: foreign text stays text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mgem_agent.server.page.rendering import POLICY, ago, html_response, render

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (90_000, "1 day ago"), (10 * 86_400, "2025-12-31")],
)
def test_times_are_said_in_words(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_messages_are_escaped() -> None:
    page = render("error.html", message="<script>alert(1)</script>", status=400, user=None)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_every_response_has_the_policy() -> None:
    response = html_response("x", 404, HX_Retarget="#alerts")
    assert response.headers["content-security-policy"] == POLICY and response.headers["hx-retarget"] == "#alerts"
    assert response.headers["cache-control"] == "no-store" and response.status_code == 404
