"""The parts of `mgem bench scale`."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from mgem_agent.cli.app import app


def test_a_missing_package_and_an_unknown_part_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["bench", "scale", "--only", "batch"])
    assert result.exit_code == 1 and "No part of this benchmark can be measured here" in result.stderr
    assert "pip install 'mgem-agent[ray]'" in result.stderr
    result = CliRunner().invoke(app, ["bench", "scale", "--only", "baking"])
    assert result.exit_code == 1 and "There is no part 'baking'. Allowed: batch, swap." in result.stderr
