"""`mgem config`: what is settled is shown with its source, and the user's file keeps its comments."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "deep" / "config.toml"))
    return tmp_path / "deep" / "config.toml"


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(app, ["config", *arguments])


def test_a_value_is_checked_typed_and_kept(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("look", "2"), ("model", "ollama:7"), ("picture.width", "512"), ("confirm", "yes"), ("store", "pictures"),
        ("model_options.temperature", "0.5"), ("model_options.dtype", "bfloat16"), ("timeout_s", "90"),
    ):  # fmt: skip
        result = run("set", name, value)
        assert (result.exit_code, result.output) == (0, "")
    assert tomllib.loads(path.read_text()) == {
        "look": 2,
        "model": "ollama:7",
        "picture": {"width": 512},
        "confirm": True,
        "store": str(tmp_path / "pictures"),
        "model_options": {"temperature": 0.5, "dtype": "bfloat16"},
        "timeout_s": 90.0,
    }
    assert run("path").output == f"{path}\n"


def test_lists_and_tables_of_the_server(path: Path) -> None:
    for name, value in (
        ("server.model_aliases", '{"gpt-image-1" = "image:nano"}'),
        ("server.allowed_hosts", '["box.local"]'),
        ("picture.negative_prompt", "[blurred]"),
    ):
        result = run("set", name, value)
        assert (result.exit_code, result.output) == (0, "")
    assert tomllib.loads(path.read_text()) == {
        "server": {"model_aliases": {"gpt-image-1": "image:nano"}, "allowed_hosts": ["box.local"]},
        "picture": {"negative_prompt": "[blurred]"},
    }
    assert "image:nano" in run("show").output
    result = run("set", "server.model_aliases", '{"gpt-image-1" = 7}')
    assert "Input should be a valid string" in result.output


@pytest.mark.parametrize(
    ("name", "value"),
    [("generator", "nano"), ("generator", "openai:gpt-image-2"), ("model", "openai:gpt-5"), ("model", "ollama:qwen3")],
)
def test_what_lacks_a_key_or_a_package_exists(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = run("set", name, value)
    assert (result.exit_code, result.output) == (0, "")


def test_comments_and_order_stay(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("# mine\nlook = 1  # once\n\n[picture]\n# wide\nwidth = 64\nsteps = 2\n")
    run("set", "look", "3")
    run("set", "picture.width", "128")
    assert path.read_text() == "# mine\nlook = 3  # once\n\n[picture]\n# wide\nwidth = 128\nsteps = 2\n"
    run("unset", "picture.width")
    run("unset", "picture.steps")
    assert path.read_text() == "# mine\nlook = 3  # once\n\n"


def test_a_file_that_is_kept_elsewhere_stays_there(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    (tmp_path / "dotfiles.toml").write_text("look = 1\n")
    path.symlink_to(tmp_path / "dotfiles.toml")
    run("set", "look", "2")
    assert path.is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text() == "look = 2\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("set", "look", "many"),
            "look = 'many', from the command line, is not valid: look is 'many'. Give a maximum number",
        ),
        (("set", "picture.hight", "3"), "There is no setting 'picture.hight'. Did you mean 'picture.height'?"),
        (("set", "model_options.api_key", "sk-1"), "model_options.api_key is a secret and is not written to a file."),
        (("set", "picture", "3"), "picture is a table. Give a setting in it, such as picture.width."),
        (("set", "generator", "nanoo"), "There is no generator 'nanoo'"),
        (("set", "model", "nanoo"), "There is no reasoner 'nanoo', and no such folder."),
        (("set", "model", "openia:gpt-5"), "There is no provider 'openia'"),
        (("unset", "look"), "'look' is not set in '"),
        (("show", "modle"), "There is no setting 'modle'. Did you mean 'model'?"),
    ],
)
def test_what_cannot_be_done(path: Path, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert not path.exists()


def test_a_broken_file_can_be_mended(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("loook = 1\n")
    assert run("show").stderr.startswith("Error: There is no setting 'loook', found in ")
    assert run("unset", "loook").exit_code == 0
    assert run("show").exit_code == 0
    path.write_text("look = \n")
    assert "cannot be read: " in run("set", "look", "1").stderr


def test_a_device_is_not_written_to(tmp_path: Path) -> None:
    result = run("set", "look", "1", MGEM_CONFIG=str(tmp_path))
    assert result.exit_code == 1
    assert "cannot be read: " in result.stderr
    result = run("set", "look", "1", MGEM_CONFIG="/dev/null")
    assert result.stderr == "Error: '/dev/null' is not a file. Set MGEM_CONFIG to the path of a file.\n"


@pytest.mark.usefixtures("path")
def test_the_list_has_values_and_sources(path: Path) -> None:
    run("set", "look", "2")
    rows = {line.split()[0]: line.split()[1:] for line in run().output.splitlines()}
    assert rows["name"] == ["value", "source"]
    assert rows["look"][0] == "2"
    assert rows["draw"] == ["auto", "default"]
    assert rows["store"] == ["–", "default"]
    [picture, *_] = json.loads(run("show", "picture", "--json").output)
    assert picture == {"name": "picture.width", "value": None, "source": "default"}
    [only] = json.loads(run("show", "look", "--json", MGEM_LOOK="3").output)
    assert only == {"name": "look", "value": 3, "source": "MGEM_LOOK"}
    assert len(json.loads(run("--json").output)) == len(rows) - 1
