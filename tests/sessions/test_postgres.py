"""Sessions in PostgreSQL do what sessions do, against a server of the test's own."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg.types.json import Json

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, MissingDependencyError, ToolError
from mgem_agent.sessions.session_record import new_record
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

TAKE_TURNS = """
import sys
import time
from mgem_agent.errors import InputError
from mgem_agent.sessions.session_record import new_record
from mgem_agent.sessions.sessions import Sessions
url, worker, num_turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
sessions = Sessions.postgres(url)
print("ready", flush=True)
for number in range(num_turns):
    while True:
        try:
            with sessions.hold("tale"):
                before = [turn["id"] for turn in sessions.turns("tale")]
                sessions.begin("tale", {"turn": f"{worker}{number}"}, title="a tale")
                sessions.finish("tale", {"id": f"{worker}{number}", "seen": len(before)})
            break
        except InputError as error:
            assert "in use by another process" in str(error), error
            time.sleep(0.005)
sessions.close()
"""


@pytest.fixture
def url(postgres: str) -> str:
    return postgres


def test_an_agent_keeps_its_sessions_there(url: str, tmp_path: Path) -> None:
    for turn in range(2):
        sessions = Sessions.postgres(url)
        agent = MgemAgent(
            ScriptedReasoner(script=["Here. <h>a red fox</h>"]), FlatColourGenerator(size=(32, 32)),
            store=ArtifactStore(tmp_path), sessions=sessions, confirm=True,
        )  # fmt: skip
        assert agent.invoke("Draw.", session="tale").outcome == "confirmation_needed"
        sessions.close()
        agent = MgemAgent(
            ScriptedReasoner(script=[]), FlatColourGenerator(size=(32, 32)),
            store=ArtifactStore(tmp_path), sessions=(again := Sessions.postgres(url)), confirm=True,
        )  # fmt: skip
        assert [picture.prompt for picture in agent.resume("tale", "approve").pictures] == ["a red fox"]
        assert len(agent.turns("tale")) == turn + 1
        again.close()


def test_a_fork_and_an_undo(url: str) -> None:
    sessions = Sessions.postgres(url)
    for turn in ("a", "b"):
        sessions.begin("song", {"turn": turn}, title="")
        sessions.finish("song", {"id": turn})
    sessions.fork("song", "other song")
    sessions.undo("song")
    assert [turn["id"] for turn in sessions.turns("song")] == ["a"]
    assert [turn["id"] for turn in sessions.turns("other song")] == ["a", "b"]
    for name in ("song", "other song"):
        sessions.delete(name)
        assert name not in [summary.name for summary in sessions.list()]
    sessions.close()


def test_the_second_holder_is_refused(url: str) -> None:
    first, second = Sessions.postgres(url), Sessions.postgres(url)
    refused = pytest.raises(InputError, match=r"^Session 'tale' is in use by another")
    with first.hold("tale"):
        with refused, second.hold("tale"):
            pass
        with refused, first.hold("tale"):
            pass
    with second.hold("tale"):
        pass
    first.close()
    second.close()


def test_two_processes_take_turns_in_one_session(url: str) -> None:
    """They start at once, so that one creates the tables while the other waits."""
    processes = [
        subprocess.Popen([sys.executable, "-c", TAKE_TURNS, url, worker, "15"], stdout=subprocess.PIPE)
        for worker in ("a", "b")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    sessions = Sessions.postgres(url)
    turns = sessions.turns("tale")
    assert sorted(turn["id"] for turn in turns) == sorted(
        f"{worker}{number}" for worker in "ab" for number in range(15)
    )
    assert [turn["seen"] for turn in turns] == list(range(30))
    assert (sessions.summary("tale").num_turns, sessions.open_turn("tale")) == (30, None)
    sessions.close()


def test_the_tables_are_made_once_and_at_once(url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(Sessions.postgres, [url] * 4))
    with psycopg.connect(url) as connection:
        made = connection.execute("SELECT v FROM checkpoint_migrations ORDER BY v").fetchall()
    assert made == [(number,) for number in range(len(PostgresSaver.MIGRATIONS))]
    for sessions in opened:
        sessions.close()


def test_an_older_database_is_brought_forward(url: str) -> None:
    """As releases of the library before `task_path` and the times of records left it."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table, migrations, num in (
            ("checkpoint_migrations", PostgresSaver.MIGRATIONS, 6),
            ("store_migrations", PostgresStore.MIGRATIONS, 1),
        ):
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (v INTEGER PRIMARY KEY)")  # type: ignore[arg-type]
            for number, migration in enumerate(migrations[:num]):
                connection.execute(migration)  # type: ignore[arg-type]
                connection.execute(f"INSERT INTO {table} (v) VALUES ({number})")  # type: ignore[arg-type]
        connection.execute(
            "INSERT INTO store (prefix, key, value) VALUES ('sessions', 'old', %s)",
            [Json(new_record("old") | {"updated": "2025-01-01T00:00:00+00:00", "title": "an old tale"})],
        )
    sessions = Sessions.postgres(url)
    assert [(summary.name, summary.title) for summary in sessions.list()] == [("old", "an old tale")]
    sessions.begin("old", {"turn": "a"}, title="")
    sessions.finish("old", {"id": "a"})
    assert [turn["id"] for turn in sessions.turns("old")] == ["a"]
    sessions.close()


def test_a_database_of_a_later_release_is_refused(url: str) -> None:
    Sessions.postgres(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO store_migrations (v) VALUES (99)")
    with pytest.raises(
        InputError, match=r"was changed by a later release \(store_migrations 99; .*Run: pip install --up"
    ):
        Sessions.postgres(url)


def test_broken_connections_are_made_again(url: str) -> None:
    sessions = Sessions.postgres(url)
    with sessions.hold("tale"):
        sessions.begin("tale", {"turn": "a"}, title="")
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        ).fetchall()
    assert len(ended) >= 2  # of the pool and of the locks
    other = Sessions.postgres(url)
    with sessions.hold("tale"):
        sessions.finish("tale", {"id": "a"})
        with pytest.raises(InputError, match="in use by another process"), other.hold("tale"):
            pass
    other.close()
    assert [turn["id"] for turn in sessions.turns("tale")] == ["a"]
    sessions.close()


def test_a_database_that_goes_away_is_a_failure_of_its_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgem_agent.sessions.postgres.CONNECTED_S", 0.5)
    sessions = Sessions.postgres(url)
    name = url.rpartition("/")[2]
    with psycopg.connect(url.replace(name, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]
    with pytest.raises(ToolError, match=r"cannot be reached: .*Saved sessions are not lost") as failed:
        sessions.list()
    assert failed.value.retryable
    with pytest.raises(ToolError, match=r"cannot be reached"), sessions.hold("tale"):
        pass
    sessions.close()


def test_the_character_zero_loses_no_turn(url: str, tmp_path: Path) -> None:
    sessions = Sessions.postgres(url)
    agent = MgemAgent(
        ScriptedReasoner(script=["Zero \x00 here. <h>a red\x00 fox</h>"]), FlatColourGenerator(size=(32, 32)),
        store=ArtifactStore(tmp_path), sessions=sessions,
    )  # fmt: skip
    assert agent.invoke("Draw \x00 and \\u0000.", session="tale").outcome == "answered"
    assert agent.messages("tale")[0].text == "Draw \ufffd and \\u0000."
    sessions.close()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"^The PostgreSQL database of the sessions cannot be used: .*Check its") as it:
        Sessions.postgres("postgresql://mgem:secret@127.0.0.1:1/none?connect_timeout=2")
    assert "secret" not in str(it.value)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mgem_agent.sessions.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.postgres", None)
    with pytest.raises(MissingDependencyError, match=r"Run: pip install 'mgem-agent\[postgres\]'"):
        Sessions.postgres("postgresql://127.0.0.1/none")
