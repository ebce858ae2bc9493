"""What each display makes of the same turn."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from mgem_agent.agent.events import (
    AgentEvent,
    AgentNotice,
    CaptionReady,
    ConfirmationNeeded,
    DrawingFailed,
    DrawingProgress,
    LookedAt,
    PictureDrawn,
    TextPiece,
    Turn,
    TurnFinished,
)
from mgem_agent.cli.display.display import open_display
from mgem_agent.cli.display.pictures import PictureWindow


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "fox.png"
    Image.new("RGB", (32, 32), "orange").save(path)
    return path


@pytest.fixture
def events(picture: Path) -> list[AgentEvent]:
    caption = CaptionReady("call_0", {"prompt": "a red fox"})
    return [
        TextPiece("Here **it**"),
        TextPiece(" is:\n\n- a fox"),
        AgentNotice("A caption was cut."),
        caption,
        DrawingProgress("call_0", 1, 4),
        PictureDrawn("call_0", "img-1234", str(picture), "a red fox", ("The seed was left out.",)),
        LookedAt("call_0", "img-1234", False, 0.3, "no snow"),
        DrawingFailed("call_1", "The card came out blank.", "GeneratorOutputError"),
        DrawingFailed("call_2", "The request was cancelled.", "GenerationCancelledError"),
        TextPiece("Done"),
        ConfirmationNeeded("default", (caption,)),
        TurnFinished(Turn("default", "t1", "Here", outcome="max_rounds")),
    ]


def shown(events: list[AgentEvent], *, as_json: bool = False, images: Any = "path", **options: Any) -> tuple[str, str]:
    """What stands on standard output and standard error."""
    console = Console(file=io.StringIO(), width=100, height=30, highlight=False, **options)
    errors = Console(file=io.StringIO(), width=100, highlight=False)
    window = PictureWindow(console, images)
    display = open_display(console, errors, window, as_json=as_json, name_of=lambda name, call: "[1]")
    for event in events:
        display.show(event)
    display.tell("By the way.")
    display.fail("It broke.")
    display.hint_at("stopping")
    display.close()
    return console.file.getvalue(), errors.file.getvalue()  # type: ignore[attr-defined]


def test_plain_text_is_the_answer_and_the_paths(events: list[AgentEvent], picture: Path) -> None:
    out, err = shown(events)
    assert out == f"Here **it** is:\n\n- a fox\n{picture}\nDone\n"
    assert err.splitlines() == [
        "A caption was cut.",
        "The seed was left out.",
        "img-1234 does not match its caption: no snow (30%)",
        "Error: The card came out blank.",
        "Error: The request was cancelled.",
        "The turn ended early: max rounds.",
        "By the way.",
        "Error: It broke.",
        "stopping",
    ]


def test_paths_are_left_out_where_nothing_is_to_be_shown(events: list[AgentEvent]) -> None:
    assert shown(events, images="none")[0] == "Here **it** is:\n\n- a foxDone\n"


def test_json_has_an_event_a_line(events: list[AgentEvent], picture: Path) -> None:
    out, err = shown(events, as_json=True)
    lines = [json.loads(line) for line in out.splitlines()]
    kinds = "text text notice caption progress picture looked failed failed text confirm finished notice error notice"
    assert [line["kind"] for line in lines] == kinds.split()
    assert lines[5] == {
        "kind": "picture",
        "call_id": "call_0",
        "artifact_id": "img-1234",
        "path": str(picture),
        "prompt": "a red fox",
        "notices": ["The seed was left out."],
        "stored_before": False,
    }
    assert lines[11]["turn"]["outcome"] == "max_rounds"
    assert lines[13]["message"] == "It broke."
    assert err == ""


def test_a_terminal_shows_markdown_and_all_that_happens(
    events: list[AgentEvent], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, err = shown(events, force_terminal=True, color_system=None)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
    for line in (
        "Here it is:",
        " • a fox",
        "A caption was cut.",
        "✎ a red fox",
        f"[1]  {picture}",
        "img-1234 does not match its caption: no snow (30%)",
        "Not drawn: The card came out blank.",
        "The request was cancelled.",
        "The turn reached its limit of rounds.",
        "Error: It broke.",
    ):
        assert line in text, line
    assert "Not drawn: The request was cancelled." not in text, "that was the person's own wish"
    assert text.index("a fox") < text.index("✎") < text.index(str(picture))
    assert err == ""
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h"), "the cursor is given back"


def test_a_bar_and_a_hint_stand_at_the_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    from mgem_agent.cli.display.terminal import TerminalTurnDisplay

    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    display = TerminalTurnDisplay(console, PictureWindow(console, "none"), lambda name, call: "")
    display.show(DrawingProgress("call_0", 3, 4))
    display.hint_at("stopping the picture")
    display.close()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "drawing 1" in text and "3/4" in text and "stopping the picture" in text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_that_something_goes_on_before_the_first_event(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal, color_system=None)
    window = PictureWindow(console, "path")
    display = open_display(console, console, window, as_json=False, name_of=lambda artifact_id, call_id: artifact_id)
    display.start()
    display.close()
    assert ("working" in console.file.getvalue()) is is_terminal  # type: ignore[attr-defined]
