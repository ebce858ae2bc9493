"""Stories within a dialogue: told, gone on with, and asked about first."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.chat import story as chat_story
from mgem_agent.cli.chat.chat import run_chat
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

RECIPE = """
title: The key
cast: [{name: Mouse, looks: a grey mouse}]
scenes:
  - {text: "A mouse finds a key.", caption: "a mouse with a golden key", title: Found}
  - {text: "It opens a door.", caption: "a mouse at a door"}
"""


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "key.yaml").write_text(RECIPE)

    def run(
        line: str,
        generator: FlatColourGenerator,
        script: Any = (),
        sessions: Sessions | None = None,
        resume: str | None = None,
        **flags: Any,
    ) -> tuple[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
        parts: dict[str, Any] = {"reasoner": ScriptedReasoner(script=script), "generator": generator}
        parts |= {"store": ArtifactStore(tmp_path / "images"), "sessions": sessions or Sessions.in_memory()}
        try:
            run_chat(flags, [], resume=resume, **parts)
        except typer.Exit as left:
            assert left.exit_code == 1
        return capsys.readouterr()

    return run


def test_a_story_is_told_and_bound(say: Any, tmp_path: Path) -> None:
    generator = FlatColourGenerator(size=(32, 32))
    out, err = say(f"/story {tmp_path}/key.yaml", generator)
    assert out.startswith("# The key\n")
    assert "## 1. Found\n\nA mouse finds a key.\n" in out and "## 2.\n\nIt opens a door.\n" in out
    assert [Path(line).suffix for line in out.splitlines() if line.startswith(str(tmp_path))] == [".png", ".png"]
    book = tmp_path / "key" / "book.html"
    assert err.startswith(f"The book was written to {book}\nUse its pictures here by their ids, as in /show img-")
    assert "A mouse finds a key." in book.read_text()
    say(f"/story {tmp_path}/key.yaml", generator)
    assert len(generator.drawn) == 2, "nothing is drawn twice"
    (tmp_path / "key.yaml").write_text(RECIPE.replace("a door", "a box"))
    assert (
        "already holds another story, or this one with other picture settings."
        in say(f"/story {tmp_path}/key.yaml", generator)[1]
    )


def test_pages_are_scored_and_drawn_again_as_the_settings_say(say: Any, tmp_path: Path) -> None:
    def judged(yes: str) -> Any:
        return lambda request: json.dumps({"answers": [yes] * request.dialogue[-1]["content"][-1]["text"].count("?\n")})

    generator, story = FlatColourGenerator(size=(32, 32), num_steps=1), {"scores": True, "encoder": "none"}
    script = [judged("yes"), judged("no"), judged("yes")]
    _, err = say(f"/story {tmp_path}/key.yaml", generator, script, look="retry-1", story=story)
    assert [line for line in err.splitlines() if line.startswith("page ")][0] == "page 1 scored 100%"
    assert (
        "page 2 scored 0% (missing: Mouse; not seen" in err
        and "page 2 scored 100%" in err
        and len(generator.drawn) == 3
    )
    assert "2: 1.00 (caption 1.00" in (tmp_path / "key" / "book.html").read_text()


def test_what_failed_is_tried_again(say: Any, tmp_path: Path) -> None:
    _, err = say(f"/story {tmp_path}/key.yaml", FlatColourGenerator(size=(32, 32), fail_on="door"))
    assert "1 picture(s) are missing. Run the same command to try them again." in err
    generator = FlatColourGenerator(size=(32, 32))
    _, err = say(f"/story {tmp_path}/key.yaml", generator)
    assert "missing" not in err
    assert len(generator.drawn) == 1


def test_an_outline_waits_for_a_person(say: Any, tmp_path: Path) -> None:
    generator = FlatColourGenerator(size=(32, 32))
    _, err = say(f"/story {tmp_path}/key.yaml", generator, confirm=True)
    assert err == "The outline still waits for approval. Run the same command to be asked again.\n"
    assert generator.drawn == []
    assert not (tmp_path / "key" / "book.html").exists()


def test_no_recipe(say: Any) -> None:
    generator = FlatColourGenerator()
    assert "The story is missing. Give a built-in recipe, a recipe file or a premise" in say("/story", generator)[1]
    assert "There is no story recipe 'the_dragn'. Did you mean 'the_dragon'?" in say("/story the_dragn", generator)[1]
    assert "The recipe 'none.yaml' cannot be read" in say("/story none.yaml", generator)[1]


def test_a_shipped_story_is_drawn_in_the_size_that_is_settled(
    say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = FlatColourGenerator(size=(32, 32))
    _, err = say("/story the_dragon", generator, picture={"width": 48, "height": 64})
    assert {(request.width, request.height) for request in generator.drawn} == {(48, 64)}
    assert f"The book was written to {tmp_path / 'the_dragon' / 'book.html'}\n" in err


def test_where_a_story_goes() -> None:
    assert chat_story.story_folder("~/tales/fox.yaml") == Path.home() / "tales" / "fox"
    assert chat_story.story_folder("A hedgehog, who wants to see the sea") == Path("a-hedgehog-who-wants-to-see")
    assert chat_story.story_folder("?! ?!") == Path("story")


def test_a_story_counts_against_the_budget_of_the_session(say: Any, tmp_path: Path) -> None:
    generator, sessions = FlatColourGenerator(size=(32, 32)), Sessions.in_memory()
    _, err = say(f"/story {tmp_path}/key.yaml", generator, sessions=sessions, budget={"session": "1picture"})
    assert "The budget of this session is 1 picture. Spent: 1 picture." in err
    assert len(generator.drawn) == 1, "the first page is kept"
    (session,) = sessions.list()
    assert session.title == "The key" and session.cost["pictures"] == 1 and session.num_turns == 0
    say(f"/story {tmp_path}/key.yaml", generator, sessions=sessions, resume=session.name)
    assert len(generator.drawn) == 2, "the story is continued"
