"""Sessions in PostgreSQL do what sessions do, against a server of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

UNABLE = shutil.which("initdb") is None or shutil.which("pg_ctl") is None


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of an empty database."""
    pytest.importorskip("langgraph.checkpoint.postgres", reason="the extra postgres is not installed")
    if UNABLE:
        pytest.skip("there is no PostgreSQL here")
    home = Path(tempfile.mkdtemp(prefix="mgem-postgres-"))
    data = home / "data"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        quiet["user"] = "nobody"
        shutil.chown(home, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(["initdb", "-D", data, "-U", "mgem", "-A", "trust", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run(["pg_ctl", "-D", data, "-w", "-o", options, "-l", data / "log", "start"], **quiet)
    yield f"postgresql://mgem@127.0.0.1:{port}/postgres"
    subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(home)


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


def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("langgraph.checkpoint.postgres", reason="the extra postgres is not installed")
    with pytest.raises(InputError, match=r"^The PostgreSQL database of the sessions cannot be used: .*Check its") as it:
        Sessions.postgres("postgresql://mgem:secret@127.0.0.1:1/none?connect_timeout=2")
    assert "secret" not in str(it.value)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mgem_agent.sessions.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.postgres", None)
    with pytest.raises(MissingDependencyError, match=r"Run: pip install 'mgem-agent\[postgres\]'"):
        Sessions.postgres("postgresql://127.0.0.1/none")
