from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.cli.story_recipes import find_recipe
from mgem_agent.errors import MgemError
from mgem_agent.recipes.stories import story_recipe_files
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows import read_story

PICTURE = {"width": 32, "height": 32}
RECIPE = {
    "title": "The Key",
    "cast": [{"name": "Mouse", "looks": "a grey mouse"}],
    "scenes": [
        {"title": f"Part {n}", "text": f"The mouse finds key {n}.", "caption": f"a mouse with key {n}"}
        for n in (1, 2, 3)
    ],
    **PICTURE,
}
SCRIPT = ["The Key", "1. One: A mouse wakes.\n2. Two: A mouse sleeps.", "Mouse: a grey mouse with a hat"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MGEM_GENERATOR", "flat")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.json").write_text(json.dumps(RECIPE))
    return tmp_path


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, ["story", *arguments], **options)


def script(monkeypatch: pytest.MonkeyPatch, *lines: Any) -> ScriptedReasoner:
    reasoner = ScriptedReasoner(script=lines)
    monkeypatch.setattr("mgem_agent.cli.story_telling.open_reasoner", lambda _: reasoner)
    return reasoner


def test_a_recipe_becomes_a_book() -> None:
    result = run("key.json", "--out", "book", "--formats", "html,md")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["book/book.html", "book/book.md"]
    lines = result.stderr.splitlines()
    assert lines[:2] == ["The Key: 3 scenes", "  page 1 written: Part 1"]
    assert re.fullmatch(r"  scene 3 drawn: img-[0-9a-f]{12}", lines[-1])
    assert '<h1 dir="auto">The Key</h1>' in Path("book/book.html").read_text()
    assert read_story(Path("book")).is_complete


def test_the_same_command_draws_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = FlatColourGenerator(fail_on="key 2")
    monkeypatch.setattr("mgem_agent.cli.story_telling.open_generator", lambda _: generator)
    result = run("key.json", "--out", "book", "--formats", "md")
    assert result.exit_code == 1 and len(generator.drawn) == 2
    assert "1 of 3 pictures failed; the book says so in their place. The first: The card" in result.stderr
    assert "This picture is not drawn yet." in Path("book/book.md").read_text()
    mended = FlatColourGenerator()
    monkeypatch.setattr("mgem_agent.cli.story_telling.open_generator", lambda _: mended)
    assert run("key.json", "--out", "book", "--formats", "md").exit_code == 0
    assert len(mended.drawn) == 1
    assert run("--resume", "--out", "book", "--formats", "md").exit_code == 0
    assert len(mended.drawn) == 1 and "not drawn yet" not in Path("book/book.md").read_text()


def test_a_reasoner_that_breaks_off_leaves_a_story_to_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--out", "book", "--scenes", "2", "--formats", "md", "--seed", "5")
    script(monkeypatch, *SCRIPT, "The mouse woke.", "a mouse in bed", MgemError("The line is dead."))
    result = run("A mouse and its day.", *options)
    assert result.exit_code == 1 and "The line is dead." in result.stderr
    script(monkeypatch, "The mouse slept.", "a mouse asleep")
    result = run("A mouse and its day.", *options)
    assert result.exit_code == 0, result.output
    story = read_story(Path("book"))
    assert story.is_complete and [scene.text for scene in story.scenes] == ["The mouse woke.", "The mouse slept."]
    assert story.seed == 5 and story.recipe.scenes == 2


def test_ctrl_c_writes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Any) -> str:
        raise KeyboardInterrupt

    script(monkeypatch, *SCRIPT, "The mouse woke.", "a mouse in bed", stop)
    result = run("A mouse and its day.", "--scenes", "2", "--formats", "md", "--out", "book")
    assert result.exit_code == 130 and "Stopped. Run the same command again to continue." in result.stderr
    text = Path("book/book.md").read_text()
    assert "The mouse woke." in text and "This page is not written yet." in text


def test_an_outline_waits_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *SCRIPT)
    result = run("A mouse and its day.", "--scenes", "2", "--approve", "--formats", "md", "--out", "book")
    assert result.exit_code == 0, result.output
    assert "  1. One: A mouse wakes." in result.stderr
    assert "Approve it: mgem story --resume --yes --out book" in result.stderr
    assert not Path("book/book.md").exists()
    script(monkeypatch, "The mouse woke.", "a mouse in bed", "The mouse slept.", "a mouse asleep")
    assert run("--resume", "--yes", "--formats", "md", "--out", "book").exit_code == 0
    assert read_story(Path("book")).is_complete


@pytest.mark.parametrize(
    ("answers", "state", "title"),
    [("r\n", "refused", "The Key"), ("x\na\n", "finished", "The Key"), ("e\nThe Lock\n\n\n", "finished", "The Lock")],
)
def test_a_person_decides_at_a_terminal(monkeypatch: pytest.MonkeyPatch, answers: str, state: str, title: str) -> None:
    script(monkeypatch, *SCRIPT, "The mouse woke.", "a mouse in bed", "The mouse slept.", "a mouse asleep")
    monkeypatch.setattr("mgem_agent.cli.story_telling.is_interactive", lambda: True)
    result = run(
        "A mouse and its day.", "--scenes", "2", "--approve", "--formats", "md", "--out", "book", input=answers
    )
    assert result.exit_code == 0, result.output
    story = read_story(Path("book"))
    assert (story.state, story.title) == (state, title)
    assert Path("book/book.md").exists() == (state == "finished")


def test_json() -> None:
    result = run("key.json", "--out", "book", "--formats", "html", "--json")
    data = json.loads(result.stdout)
    assert (data["title"], data["state"], data["files"]) == ("The Key", "finished", ["book/book.html"])
    assert [scene["status"] for scene in data["scenes"]] == ["drawn"] * 3
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Usage: mgem story"),
        (("--out", "book"), "No story was given. Give a recipe, a premise, or --resume."),
        (("the_dragn",), "There is no story recipe 'the_dragn'. Did you mean 'the_dragon'?"),
        (("no.yaml",), "The recipe 'no.yaml' cannot be read: No such file"),
        (
            ("key.json", "--formats", "doc"),
            "'doc' is not a list of book formats. Allowed: html, md, pdf, separated by commas.",
        ),
        (("key.json", "--scenes", "9"), "The recipe lists 3 scenes, but 9 were requested."),
        (("key.json", "--language", "no language"), "The recipe is not valid: language: String should match"),
        (("--resume", "--out", "empty"), "There is no story in 'empty'."),
        (("--resume", "--style", "ink"), "--style applies to a new story, but --resume continues the old one."),
    ],
)
def test_what_cannot_be_told(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())


def test_another_story_in_the_folder_is_not_touched() -> None:
    run("key.json", "--out", "book", "--formats", "md")
    result = run("key.json", "--out", "book", "--formats", "md", "--style", "ink")
    assert result.exit_code == 1 and "'book' already holds another story, 'The Key', or the same" in result.stderr
    Path("other").mkdir()
    Path("other/book.md").write_text("mine")
    result = run("key.json", "--out", "other", "--formats", "md")
    assert result.exit_code == 1 and "is not from this book" in result.stderr
    assert [path.name for path in Path("other").iterdir()] == ["book.md"]


def test_replay() -> None:
    run("key.json", "--out", "book", "--formats", "html")
    result = run("replay", "book/story.json", "--out", "again", "--formats", "html")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("the same picture, byte for byte") == 3
    assert "3 of 3 pictures are identical, byte for byte." in result.stdout
    assert Path("again/book.html").read_bytes() == Path("book/book.html").read_bytes()
    result = run("replay", "book", "--out", "again")
    assert result.exit_code == 1 and "'again' already holds a story." in result.stderr
    assert "There is no story in 'nowhere.json'" in run("replay", "nowhere.json").stderr


def test_replay_says_what_differs() -> None:
    run("key.json", "--out", "book", "--formats", "html")
    text = Path("book/story.json").read_text()
    Path("book/story.json").write_text(re.sub(r'("executed": \{\s+"prompt": ")a mouse with key 2', r"\1an owl", text))
    result = run("replay", "book/story.json", "--json")
    assert result.exit_code == 1
    assert [picture["is_same"] for picture in json.loads(result.stdout)["pictures"]] == [True, False, True]


def test_schema_and_recipes() -> None:
    schema = json.loads(run("schema").stdout)
    assert schema["title"] == "Story recipe" and "premise" in schema["properties"]
    assert schema["additionalProperties"] is False
    lines = run("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(story_recipe_files())
    assert [entry["name"] for entry in json.loads(run("recipes", "--json").stdout)] == list(story_recipe_files())


def test_a_command_may_be_a_premise_where_telling_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no story recipe 'schema'" in run("tell", "schema").stderr


def test_words_that_are_no_name_are_a_premise() -> None:
    assert find_recipe("A mouse.  ")[0].premise == "A mouse."
