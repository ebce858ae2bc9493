from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.app import app
from mgem_agent.cli.ask import run_ask, with_context
from mgem_agent.cli.factories import budget_flags
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    reasoner = ScriptedReasoner(script=["Here: <h> a fox </h>"])
    generator = FlatColourGenerator(size=(32, 32), fail_on="ghost")
    return {"reasoner": reasoner, "generator": generator, "store": ArtifactStore(tmp_path / "images")}


def test_the_answer_and_then_its_pictures(parts: Any, capsys: Any, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    run_ask("Draw it.", [tmp_path / "red.png"], {}, **parts)
    out, err = capsys.readouterr()
    said, path = out.splitlines()
    assert said == "Here:"
    assert parts["store"].get(Path(path).stem).title == "a fox"
    assert err == ""
    content = parts["reasoner"].requests[0].dialogue[-1]["content"]
    assert [block["type"] for block in content] == ["image", "text"]


def test_a_notice_says_that_white_lettering_is_shown_on_black(parts: Any, capsys: Any, tmp_path: Path) -> None:
    lettering = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    lettering.paste((255, 255, 255, 255), (5, 5, 20, 15))
    lettering.save(tmp_path / "white.png")
    run_ask("What is it?", [tmp_path / "white.png"], {}, **parts)
    assert "The picture is white on a transparent background. It is shown on black" in capsys.readouterr().err


def test_a_budget_and_a_look_come_from_the_command_line(parts: Any, capsys: Any) -> None:
    parts["reasoner"] = ScriptedReasoner(script=["<h> a fox </h>", '{"answers": ["no"]}'])
    run_ask("Draw it.", [], {"look": "retry-3", "budget": budget_flags("1picture", "turn")}, **parts)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "does not match its caption: not seen: fox (0%)" in err
    assert "The picture was not drawn again. The budget of this turn is 1 picture." in err


def test_events_as_json(parts: Any, capsys: Any) -> None:
    run_ask("Draw it.", [], {}, as_json=True, **parts)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (events[0]["kind"], events[-1]["kind"]) == ("text", "finished")


def test_a_picture_that_is_missing_is_a_failure(parts: Any, capsys: Any) -> None:
    parts["reasoner"] = ScriptedReasoner(script=["Boo <h> a ghost </h>"])
    with pytest.raises(typer.Exit) as left:
        run_ask("Draw it.", [], {}, **parts)
    assert left.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == "Boo\n"
    assert err == "Error: The card 'a ghost' came out blank.\n"


def test_nobody_is_there_to_confirm(parts: Any) -> None:
    with pytest.raises(
        InputError, match=r"^Drawing must be confirmed, and there is no terminal to ask at\. Add --yes or --no-confirm"
    ):
        run_ask("Draw it.", [], {"confirm": True}, **parts)


def test_what_is_piped_in_stands_below_the_question(parts: Any) -> None:
    assert with_context("Sum this up", "one\ntwo\n") == "Sum this up\n\none\ntwo"
    assert with_context("", " alone ") == "alone"
    result = CliRunner().invoke(app, ["ask"], input="")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The question is empty.")


def test_an_empty_answer_is_a_failure_that_says_so(parts: Any, capsys: Any) -> None:
    parts["reasoner"] = ScriptedReasoner(script=[""])
    with pytest.raises(typer.Exit) as left:
        run_ask("Hello.", [], {}, as_json=True, **parts)
    assert left.value.exit_code == 1
    *_, notice, finished = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert notice == {"kind": "notice", "message": "The answer is empty. Ask again, or rephrase the question."}
    assert finished["turn"]["notices"] == [notice["message"]] and finished["turn"]["finish_reason"] == "stop"


def test_ctrl_c_ends_with_its_own_status(parts: Any, capsys: Any) -> None:
    class Pressed(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            assert options["cancel"].wait(10)
            yield from super().generate(requests, **options)

    parts["generator"] = Pressed(size=(32, 32))
    with pytest.raises(typer.Exit) as left:
        run_ask("Draw it.", [], {}, **parts)
    assert left.value.exit_code == 130
