from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from mgem_agent.cli.app import app


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["generators", *arguments])


def test_the_list() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["name", "package", "tasks", "what"]
    assert {"a1111", "comfyui", "diffusers", "flat", "openai"} <= {line.split(" ")[0] for line in lines}
    assert "Coloured cards with the prompt on them" in result.output
    assert lines[-1] == "To see what one supports: mgem generators NAME"


def test_the_list_as_json() -> None:
    schemes = {scheme["scheme"]: scheme for scheme in json.loads(run("--json").output)}
    assert schemes["flat"]["capabilities"]["tasks"] == ["edit", "image_to_image", "inpaint", "text_to_image"]
    assert schemes["comfyui"]["package"] == "mgem-agent"
    assert schemes["openai"]["problem"] is None


def test_one_of_them() -> None:
    result = run("openai:gpt-image-1.5")
    lines = dict(line.rstrip().split("  ", 1) for line in result.output.splitlines())
    assert lines["sizes"].strip() == "1024x1024, 1536x1024, 1024x1536"
    assert (lines["seed"].strip(), lines["cancel"].strip(), lines["max batch size"].strip()) == ("no", "yes", "any")
    assert (lines["max references"].strip(), lines["size multiple"].strip()) == ("15", "16")
    lines = dict(line.rstrip().split("  ", 1) for line in run("a1111").output.splitlines())
    assert (lines["max references"].strip(), lines["max batch size"].strip()) == ("0", "1")
    assert json.loads(run("flat", "--json").output)["max_references"] == 4


def test_the_things_that_nano_knows() -> None:
    result = run("nano", "--things")
    assert result.exit_code == 0, result.output
    assert "261 things" in result.output and "19 places" in result.output
    assert "hedgehog" in result.output and "plain blue" in result.output
    known = json.loads(run("nano", "--things", "--json").stdout)
    assert known["things"]["fox"] == ["red fox"]
    assert json.loads(run("nano", "--json").stdout)["vocabulary"] == "261 things, 19 places"
    assert json.loads(run("flat", "--json").output)["vocabulary"] == "any caption"
    assert "it accepts any caption" in run("flat", "--things").stderr
    assert "Example: mgem generators nano --things" in run("--things").stderr


def test_one_that_is_not_there() -> None:
    result = run("dall-e")
    assert result.exit_code == 1
    assert "There is no generator 'dall-e'." in result.stderr


def test_the_settled_one_has_its_options() -> None:
    settled = {"MGEM_GENERATOR": "flat", "MGEM_GENERATOR_OPTIONS__COLOUR": "red"}
    result = CliRunner(env=settled).invoke(app, ["generators", "flat"])
    assert "Generator 'flat' does not take the options 'colour'" in result.stderr
    assert CliRunner(env=settled).invoke(app, ["generators", "a1111"]).exit_code == 0
