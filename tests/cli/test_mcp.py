"""`mgem mcp`: its options."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.cli.mcp import open_parts
from mgem_agent.errors import InputError
from mgem_agent.settings import load_settings


def test_nothing_is_loaded_and_the_first_generator_is_the_default(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path), generator="flat")
    parts = open_parts(settings, ["flat", "openai:gpt-image-2", "flat"], roots=[], books=tmp_path / "books")
    assert parts.generators == ("flat", "openai:gpt-image-2")
    assert parts.generator().name == "flat" and parts.generator() is parts.generator("flat")
    assert (parts.confirm, parts.spending, parts.access.folders) == (False, "ask", ())
    assert parts.books.folder("a-book") == tmp_path / "books" / "a-book"
    assert open_parts(settings, [], roots=[]).generators == ("flat",)


def test_a_root_is_a_folder_and_a_generator_is_known(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path))
    assert open_parts(settings, [], roots=[tmp_path]).access.folders == (tmp_path.resolve(),)
    with pytest.raises(InputError, match="is not a folder"):
        open_parts(settings, [], roots=[tmp_path / "none"])
    with pytest.raises(InputError, match="There is no generator 'flot'. Did you mean 'flat'"):
        open_parts(settings, ["flot"], roots=[])


def test_a_wrong_option_is_an_error_on_stderr() -> None:
    found = CliRunner().invoke(app, ["mcp", "--http", "8766"])
    assert found.exit_code == 1 and found.stdout == "" and "Give HOST:PORT" in found.stderr
