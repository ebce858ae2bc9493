"""The parts of `mgem bench scale`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app


def test_a_missing_package_and_an_unknown_part_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["bench", "scale", "--only", "batch"])
    assert result.exit_code == 1 and "No part of this benchmark can be measured here" in result.stderr
    assert "pip install 'mgem-agent[ray]'" in result.stderr
    result = CliRunner().invoke(app, ["bench", "scale", "--only", "baking"])
    assert result.exit_code == 1 and "There is no part 'baking'. Allowed: batch, store, swap." in result.stderr


def test_the_store_is_measured_with_the_address_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGEM_STORE", f"memory://{tmp_path.name}")
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    result = CliRunner().invoke(app, ["bench", "scale", "--only", "store", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)["figures"]["store"]
    assert [way["label"] for way in figures["ways"]][2:] == ["store in a folder", "store at memory://"]
