"""`mgem sessions`: what is kept of dialogues, and that deleting one takes no picture along."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.cli.app import app
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    """Two sessions: a tale of two turns, and a question about its picture."""
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    store, sessions = ArtifactStore(), Sessions.at()
    script = ["Here.\x1b[2J <h> a [red] fox </h>", "Now. <h>a dog</h> <h>a broken dog</h>", "A fox, I think."]
    generator = FlatColourGenerator(size=(32, 32), fail_on="broken")
    agent = MgemAgent(ScriptedReasoner(script=script), generator, store=store, sessions=sessions)
    fox = agent.invoke("Draw a fox,\nplease.", session="tale").pictures[0].artifact_id
    agent.invoke("And dogs.", session="tale")
    agent.invoke("What is it?", [fox], session="a question")
    sessions.close()
    yield store


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, ["sessions", *arguments], **options)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("words", [(), ("list",)])
def test_the_list(words: tuple[str, ...]) -> None:
    header, newest, oldest = run(*words).output.splitlines()
    assert header.split() == ["name", "turns", "pictures", "last", "used", "begins", "with"]
    assert newest.split()[:4] == ["a", "question", "1", "0"] and newest.rstrip().endswith("  What is it?")
    assert oldest.split()[:3] == ["tale", "2", "2"] and oldest.rstrip().endswith("  Draw a fox, please.")
    assert len(run("list", "-n", "1").output.splitlines()) == 2
    data = json.loads(run(*words, "--json").output)
    assert [(each["name"], each["num_turns"], each["num_pictures"]) for each in data] == [
        ("a question", 1, 0),
        ("tale", 2, 2),
    ]


def test_an_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    assert run().output == "No sessions yet. Start one: mgem chat\n"
    assert json.loads(run("--json").output) == []


def test_a_transcript(kept: ArtifactStore) -> None:
    dog, fox = _ids(kept)
    assert re.match(r"\nCost: 2 pictures, \d+\.\d s, \d+ tokens, 0 USD\n$", run("show", "tale").stderr)
    assert run("show", "tale").stdout == (
        "# Draw a fox, please.\n\n**You:** Draw a fox,\nplease.\n\n**Answer:** Here.\n\n"
        f"![a (red) fox]({fox})\n\n**You:** And dogs.\n\n**Answer:** Now.\n\n![a dog]({dog})\n\n"
        "*Not drawn:* a broken dog\n"
    )
    data = json.loads(run("show", "a question", "--json").output)
    assert (data["name"], data["unfinished"]) == ("a question", False)
    asked, answered = data["turns"][0]["said"]
    assert asked == {"who": "human", "text": "What is it?", "pictures": [{"id": fox, "caption": ""}], "failures": []}
    assert (answered["who"], answered["text"]) == ("ai", "A fox, I think.")


def _ids(store: ArtifactStore) -> tuple[str, str]:
    """The dog's id and the fox's."""
    by_title = {each.title: each.id for each in store.list()}
    return by_title["a dog"], by_title["a [red] fox"]


def test_an_export_has_its_pictures_beside_it(kept: ArtifactStore, tmp_path: Path) -> None:
    dog, fox = _ids(kept)
    out = tmp_path / "out"
    assert run("export", "tale", "--out", str(out)).stdout == f"{out / 'session.md'}\n"
    assert f"![a dog](images/{dog}.png)" in (out / "session.md").read_text()
    assert (out / "images" / f"{fox}.png").read_bytes() == kept.path(fox).read_bytes()
    assert json.loads((out / "session.json").read_text())["num_turns"] == 2
    again = run("export", "tale", "--out", str(out))
    assert again.exit_code == 1
    assert "already exists. Choose another folder, or add --overwrite." in again.stderr
    kept.path(dog).unlink()
    overwritten = run("export", "tale", "--out", str(out), "--overwrite")
    assert overwritten.stderr == f"{dog} is no longer stored, so it was left out.\n"
    assert f"![a dog]({dog})" in (out / "session.md").read_text()


def test_deleting_asks_and_leaves_pictures_and_forks(kept: ArtifactStore) -> None:
    assert run("fork", "tale", "other tale").stdout == "To continue it: mgem chat --resume 'other tale'\n"
    refused = run("delete", "tale", input="n\n")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Delete 'tale' with 2 turn(s)? Its pictures are kept. [y/N]:Aborted.\n",
    )
    assert run("delete", "tale", input="y\n").exit_code == 0
    assert run("delete", "a question", "--yes").exit_code == 0
    assert [each["name"] for each in json.loads(run("--json").output)] == ["other tale"]
    assert "a dog" in run("show", "other tale").output
    assert len(kept.list()) == 2


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("words", [("show", "talle"), ("delete", "talle", "-y"), ("fork", "talle", "new")])
def test_a_session_that_is_not_there(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no session 'talle'. The latest sessions: 'a question', 'tale'.")


@pytest.mark.usefixtures("kept")
def test_an_unfinished_turn_is_told_of() -> None:
    sessions = Sessions.at()
    sessions.begin("tale", {"turn": "x"}, title="")
    sessions.close()
    told = run("show", "tale").stderr
    assert told.endswith("\nThe last turn is unfinished. To continue: mgem chat --resume tale\n")
    assert "(unfinished) Draw a fox" in run("list").output


def test_names_are_whole_in_a_narrow_terminal(kept: ArtifactStore) -> None:
    name = "chat-20261128-201500-a-rather-long-name-of-a-session"
    assert run("fork", "tale", name).exit_code == 0
    listed = CliRunner(env={"COLUMNS": "40"}).invoke(app, ["sessions", "list"]).output
    assert name in listed
