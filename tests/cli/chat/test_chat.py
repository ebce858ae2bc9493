"""`mgem chat`: dialogues from a pipe and at a terminal, and each of its commands."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.app import app
from mgem_agent.cli.chat.chat import run_chat
from mgem_agent.cli.chat.command import read_options
from mgem_agent.cli.chat.commands import command_table, complete
from mgem_agent.cli.chat.session import find_session, match_session
from mgem_agent.errors import InputError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.capabilities import Capabilities

ID = re.compile(r"img-[0-9a-f]+")


def answer(request: Any) -> str:
    """Draws where that is asked for, and else repeats the last line."""
    content = request.dialogue[-1]["content"]
    words = [block["text"] for block in content if block["type"] == "text"] if isinstance(content, list) else [content]
    said = words[-1].splitlines()[-1]
    return f"Here: <h> {said.removeprefix('draw ')} </h>" if said.startswith("draw ") else f"You said {said}"


class Talk:
    """Runs dialogues over the same store and sessions."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.store = ArtifactStore(folder / "images")
        self.generator = FlatColourGenerator(size=(32, 32))
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *lines: str, flags: dict[str, Any] | None = None, **options: Any) -> tuple[str, str, int]:
        """Say lines; what stands on standard output and standard error, and the exit status."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
        parts = {"reasoner": ScriptedReasoner(script=[answer], is_endless=True), "generator": self.generator}
        parts |= {"store": self.store, "sessions": Sessions.at(self.folder / "sessions")}
        status = 0
        try:
            run_chat(flags or {}, options.pop("images", []), **{"session": "s", **parts, **options})
        except typer.Exit as left:
            status = left.exit_code
        out, err = self._capsys.readouterr()
        return out, err, status

    def turns(self, session: str = "s") -> list[Any]:
        with_sessions = Sessions.at(self.folder / "sessions")
        records = list(with_sessions.turns(session))
        with_sessions.close()
        return records


@pytest.fixture
def talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str, int]]:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    return Talk(tmp_path, monkeypatch, capsys)


def test_lines_from_a_pipe_are_messages(talk: Any) -> None:
    out, err, status = talk("hello", "", '"""', "two", "lines", '"""', "//no command", "draw a fox")
    lines = out.splitlines()
    assert lines[:4] == ["You said hello", "You said lines", "You said /no command", "Here:"]
    assert Path(lines[4]).is_file()
    assert (err, status) == ("", 0)
    assert len(talk.turns()) == 4


def test_a_session_goes_on(talk: Any, tmp_path: Path) -> None:
    talk("draw a fox")
    out, _, _ = talk("/images", session=None, is_continued=True)
    assert re.fullmatch(r"\[1\]  img-\w+  a fox\n", out)
    out, _, _ = talk("/images", session=None, resume="s")
    assert "a fox" in out
    talk("hi", session=None)
    sessions = Sessions.at(tmp_path / "sessions")
    names = [each.name for each in sessions.list()]
    sessions.close()
    assert len(names) == 2
    assert names[0].startswith("chat-")


def test_pictures_go_with_the_first_message(talk: Any, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    talk("what is it?", "/edit make it blue", images=[tmp_path / "red.png"])
    blocks = talk.turns()[0]["messages"][0]["data"]["content"]
    assert [block["type"] for block in blocks] == ["image", "text"]
    assert talk.generator.drawn[0].image == blocks[0]["file_id"]
    assert len(talk.turns()) == 2
    with pytest.raises(InputError):
        talk("x", images=[tmp_path / "none.png"])


def test_events_as_json(talk: Any) -> None:
    out, err, _ = talk("draw a fox", "/nope", as_json=True)
    events = [json.loads(line) for line in out.splitlines()]
    assert {event["kind"] for event in events} == {"text", "caption", "progress", "picture", "finished", "error"}
    assert events[-1]["message"].startswith("There is no command '/nope'.")
    assert err == ""


def test_what_goes_wrong_is_said_and_the_dialogue_goes_on(talk: Any) -> None:
    out, err, status = talk("/imags", "/gen", "/show 7", "/seed x", "/gen a --nope 1", "/gen a --seed x", "hello")
    assert out == "You said hello\n"
    assert status == 1
    assert err.splitlines() == [
        "Error: There is no command '/imags'. Did you mean /images? /help lists all. "
        "To begin a message with a slash, type '//'.",
        "Error: The prompt is missing. Example: /gen a red fox in the snow --seed 7",
        "Error: There is no picture '7' in this session. It has none yet. Give a number, an id or a file.",
        "Error: 'x' is not a seed. Give a whole number, or 'random'.",
        "Error: This command has no option '--nope'. Options: -n, --seed, --size, --steps, --negative.",
        "Error: 'x' is not valid for --seed. Give a whole number.",
    ]


def test_drawing_without_the_model(talk: Any) -> None:
    talk('/gen a fox\'s den -n 2 --seed 7 --size 48x64 --steps 3 --negative "no snow"', "/regen 1 --seed 9", "/vary 1")
    drawn = talk.generator.drawn
    assert [(each.prompt, each.seed, each.width, each.height) for each in drawn[:2]] == [
        ("a fox's den", 7, 48, 64),
        ("a fox's den", 8, 48, 64),
    ]
    assert (drawn[0].num_inference_steps, drawn[0].negative_prompt) == (3, "no snow")
    assert drawn[2] == drawn[0].model_copy(update={"seed": 9})
    assert [each.task for each in drawn[3:]] == ["image_to_image"] * 3
    assert len({each.seed for each in drawn[3:]}) == 3
    assert {each.image for each in drawn[3:]} == {talk.turns()[0]["pictures"][0]["artifact"]}


def test_a_picture_is_changed_by_the_way_that_is_meant(talk: Any) -> None:
    talk.generator = FlatColourGenerator(
        size=(32, 32), capabilities=Capabilities(tasks=frozenset({"text_to_image"}), seed=True)
    )
    _, err, status = talk("/gen a fox --seed 3", "/edit 1 at night", "/edit 1 at night --any-way", "/vary 1 -n 1")
    assert status == 1
    assert "In this chat: /edit 1 at night --any-way" in err
    assert "'redraw' was used with the prompt 'a fox. at night'" in err
    assert "This generator cannot start from a picture" in err
    assert [(each.prompt, each.seed) for each in talk.generator.drawn[:2]] == [("a fox", 3), ("a fox. at night", 3)]


def test_a_picture_that_is_the_same_again_is_reported(talk: Any) -> None:
    _, err, _ = talk("/gen a fox --seed 3", "/regen --seed 4")
    assert "drew the same picture as before" not in err
    talk.generator = FlatColourGenerator(size=(32, 32), capabilities=Capabilities())
    _, err, _ = talk("/gen a hen", "/regen", "/vary -n 2")
    same = "flat drew the same picture as before. Draw another caption with /gen PROMPT, or choose another generator"
    assert err.count(same) == 2
    assert "cannot start from a picture. It draws the same caption again; it takes no seeds." in err


def test_style_references_and_seed_hold_for_every_picture(talk: Any) -> None:
    talk("/gen a boy", "/ref 1 as Tim", "/style in ink", "/seed 5", "draw tim on a hill", "draw a tree", "/ref Tim off")
    boy = talk.turns()[0]["pictures"][0]["artifact"]
    drawn = talk.generator.drawn[1:]
    assert [each.prompt for each in drawn] == ["tim on a hill, in ink", "a tree, in ink"]
    assert [each.references for each in drawn] == [(boy,), ()]
    assert [each.seed for each in drawn] == [5, 5]
    assert talk.store.get(talk.turns()[1]["pictures"][0]["artifact"]).parents == (boy,)


def test_settings_are_changed_for_the_dialogue(talk: Any) -> None:
    out, err, _ = talk(
        "/set picture.width 48", "draw a fox", "/set picture.width default", "draw a hen", "/set", "/set x"
    )
    assert [each.width for each in talk.generator.drawn] == [48, 32]
    assert "picture.width = 48" in err and "picture.width = –" in err
    assert re.search(r"^draw +auto$", out, re.MULTILINE)
    assert "There is no setting 'x'." in err
    _, err, _ = talk("/set draw ever", "/set store /tmp", "/set draw never", "draw a cat")
    assert "draw = 'ever', from the command line, is not valid" in err
    assert "'store' cannot be changed during a chat." in err
    assert len(talk.generator.drawn) == 2


def test_what_the_reasoner_is_told_can_be_limited_in_the_chat(talk: Any) -> None:
    seen = []

    def count(request: Any) -> str:
        seen.append(sum(message["role"] == "user" for message in request.dialogue))
        return "Yes."

    reasoner = ScriptedReasoner(script=[count], is_endless=True)
    lines = ("one", "two", "/set max_history_turns 0", "three", "/set max_history_turns default", "four")
    _, err, status = talk(*lines, "/set max_context_tokens 200", "five", "/set sees false", reasoner=reasoner)
    assert (status, seen[:4]) == (0, [1, 2, 1, 4]) and seen[4] < 5
    assert "The context of 200 tokens is full: " in err and "sees = false" in err


def test_another_generator(talk: Any) -> None:
    out, err, _ = talk("/backend", "/backend flat", "/gen a fox --size 16x16", "/backend nope", "/gen a hen")
    assert "The generator is flat." in err
    assert "diffusers" in out
    assert "There is no generator 'nope'" in err
    assert talk.generator.drawn == [], "another one drew"
    assert len(talk.turns()) == 2


def test_back_aside_and_to_another_session(talk: Any, tmp_path: Path) -> None:
    out, err, _ = talk("one", "two", "three", "/fork 1", "four", "/undo", "/sessions", "/resume s", "five", "/clear")
    assert [len(turn["messages"]) for turn in talk.turns()] == [2, 2, 2, 2]
    assert "with 1 turn(s) of 's'. The old session is unchanged." in err
    assert "The last turn was dropped." in err
    assert re.search(r"^chat-\S+ +\S+ \S+ +1 +one *$", out, re.MULTILINE)
    assert "Now in a new session. To return to the old one: /resume s" in err
    _, err, _ = talk("/fork 9", "/resume", "/resume nope")
    assert "This session has no turn '9'. It has 4 turn(s)." in err
    assert "This session has no unfinished turn." in err
    assert "There is no session 'nope'." in err


def test_captions_that_wait(talk: Any) -> None:
    _, err, status = talk("draw a fox", "hello", flags={"confirm": True})
    assert status == 0 or status == 1
    assert "1 caption(s) of session 's' must be confirmed, and there is no terminal to ask at. Add --yes" in err
    assert "The last turn is unfinished. /resume continues it, /undo drops it." in err
    assert talk.generator.drawn == []
    talk(flags={"confirm": True}, yes=True)
    assert len(talk.generator.drawn) == 1
    assert len(talk.turns()) == 1


def test_an_error_leaves_a_turn_that_goes_on(talk: Any) -> None:
    broken = ScriptedReasoner(script=[RuntimeError("the server is gone"), "Back again."])
    out, err, status = talk("hello", "/resume", reasoner=broken)
    assert out == "Back again.\n"
    assert "RuntimeError: the server is gone" in err
    assert "The turn is unfinished: /resume continues it, /undo drops it." in err
    assert status == 1
    assert len(talk.turns()) == 1


def test_files(talk: Any, tmp_path: Path) -> None:
    talk("draw a fox", f"/save {tmp_path}/fox", f"/export md {tmp_path}/my talk.md", f"/export json {tmp_path}/t.json")
    name = talk.turns()[0]["pictures"][0]["artifact"]
    data = talk.store.path(name).read_bytes()
    assert (tmp_path / "fox.png").read_bytes() == data
    text = (tmp_path / "my talk.md").read_text()
    assert f"![a fox](my%20talk-pictures/{name}.png)" in text
    assert (tmp_path / "my talk-pictures" / f"{name}.png").read_bytes() == data
    assert json.loads((tmp_path / "t.json").read_text())["turns"][0]["said"][0]["text"] == "draw a fox"
    _, err, _ = talk("/save", "/export docx", "/export md x.md", session="empty")
    assert (
        "The file name is missing." in err
        and "'docx' is not an export format." in err
        and "The dialogue is empty" in err
    )


def test_tokens_help_and_what_needs_a_terminal(talk: Any) -> None:
    out, err, _ = talk("hello", "/tokens", "/help", "/editor", "/copy", "/quit", "never said")
    assert "The last answer used" in err
    assert re.search(r"The whole dialogue is about [\d,]+ tokens, with 104 for each picture", err)
    assert all(f"/{name}" in out for name in command_table())
    assert "An editor needs a terminal." in err and "/copy needs a terminal." in err
    assert len(talk.turns()) == 1


def test_completion(talk: Any, tmp_path: Path) -> None:
    from mgem_agent.cli.chat.state import Chat

    chat = Chat.open(
        {},
        "s",
        reasoner=ScriptedReasoner(script=[]),
        generator=talk.generator,
        store=talk.store,
        sessions=Sessions.in_memory(),
    )
    assert complete("/im", chat) == ("/im", ["/image", "/images"])
    assert complete("/image pi", chat) == ("pi", ["files"])
    assert complete("/backend fl", chat) == ("fl", ["flat"])
    assert complete("/set pic", chat)[1][0] == "picture.width"
    assert complete("/export ", chat) == ("", ["md", "html", "pdf", "json"])
    assert complete("/help x", chat) == ("", [])
    assert complete("/nope x", chat) == ("", [])


def test_options_of_a_command() -> None:
    assert read_options("it's a fox -5 --seed 7", {"--seed": int}) == ("it's a fox -5", {"seed": 7})
    assert read_options('x --negative "a b" y', {"--negative": str}) == ("x y", {"negative": "a b"})
    with pytest.raises(InputError, match=r"^'' is not valid for --seed\. Give a whole number\.$"):
        read_options("x --seed", {"--seed": int})


def test_which_session_is_meant() -> None:
    sessions = Sessions.in_memory()
    with pytest.raises(InputError, match=r"^There is no session to continue yet\. Start one: mgem chat$"):
        find_session(sessions, is_continued=True)
    for name in ("fox-1", "fox-2", "fox"):
        sessions.begin(name, {"turn": name}, title="")
    assert match_session(sessions, "fox") == "fox"
    assert match_session(sessions, "fox-1") == "fox-1"
    with pytest.raises(InputError, match=r"^'fo' matches 3 sessions: 'fox', 'fox-2', 'fox-1'\."):
        match_session(sessions, "fo")
    assert find_session(sessions, is_continued=True) == "fox"
    assert find_session(sessions, session="new") == "new"


def test_the_command_line() -> None:
    result = CliRunner().invoke(app, ["chat", "--continue", "--resume", "x"])
    assert result.exit_code == 1
    assert "--continue, --resume and --session cannot be combined." in result.stderr


def test_nothing_is_overwritten_unasked(talk: Any, tmp_path: Path) -> None:
    file = tmp_path / "my talk.md"
    file.write_text("mine")
    _, err, status = talk("draw a fox", f"/export md {file}", f"/save 1 {file}.png", f"/save 1 {file}.png")
    assert (file.read_text(), status) == ("mine", 1)
    assert err.count("already exists. Choose another name, or add --overwrite.") == 2
    _, err, status = talk(f"/export md {file} --overwrite")
    assert "a fox" in file.read_text() and status == 0


def test_a_half_character_from_a_model_harms_nothing(talk: Any) -> None:
    parts = {"reasoner": ScriptedReasoner(script=["A fox \ud83e", "\ud83e\udd8a!"], is_endless=True)}
    out, err, status = talk("one", "two", **parts)
    assert (out, err, status) == ("A fox \ufffd\n🦊!\n", "", 0)
    assert [turn["messages"][-1]["data"]["content"] for turn in talk.turns()] == ["A fox \ufffd", "🦊!"]


def test_names_of_sessions_are_whole_in_a_narrow_terminal(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "chat-20261128-201500-a-rather-long-name-of-a-session"
    talk("hello", session=name)
    out, _, _ = talk("/sessions", session=name)
    assert name in out
