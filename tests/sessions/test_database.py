"""What the database of sessions cannot do is an error of ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import ToolError
from mgem_agent.sessions.database import connect
from mgem_agent.sessions.sessions import Sessions


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[sqlite3.Connection] = []

    def noted(file: Path, **options: Any) -> sqlite3.Connection:
        opened.append(connect(file, **options))
        return opened[-1]

    monkeypatch.setattr("mgem_agent.sessions.sessions.connect", noted)
    sessions = Sessions.at(tmp_path)
    try:
        for connection in opened:  # so full that not a page more can be had
            [[pages]] = connection.execute("PRAGMA page_count").fetchall()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            ToolError, match="cannot be read or written: database or disk is full. Free some disk space"
        ):
            sessions.begin("s", {"turn": "1", "said": "x" * 100_000}, title="t")
    finally:
        sessions.close()


def test_sqlites_own_error_is_still_caught(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="no such table: pages"):
        connection.cursor().execute("SELECT * FROM pages")
    connection.close()
