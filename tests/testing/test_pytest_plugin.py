"""The fixtures for users: they do what the page says, and are imported by nobody who has not named them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXTRA = """

import sys

def test_the_fixtures_fit_together(make_mgem_agent, scripted_reasoner, artifact_store, tmp_path):
    agent = make_mgem_agent(reasoner=scripted_reasoner("<h>a</h>", "<h>b</h>"))
    drawn = [agent.invoke("Draw.").pictures[0].artifact_id for _ in range(2)]
    assert {each.id for each in artifact_store.list()} == set(drawn)
    assert artifact_store.root.is_relative_to(tmp_path)
    assert make_mgem_agent("Words.").turns() == []
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_example_of_the_page_passes(root: Path, tmp_path: Path) -> None:
    conftest, example = re.findall(
        r"^```py\n(.*?)^```$", (root / "docs" / "guides" / "testing.md").read_text(), re.M | re.S
    )
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text(example + EXTRA)
    finished = run_pytest(tmp_path)
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.startswith("..")


def test_whoever_has_not_named_it_has_not_imported_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n    assert not [name for name in sys.modules if name.startswith('mgem_agent')]\n"
    )
    finished = run_pytest(tmp_path)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("name", ["scripted_reasoner", "flat_colour_generator", "artifact_store", "make_mgem_agent"])
def test_the_page_names_every_fixture(root: Path, name: str) -> None:
    assert f"\n| `{name}` | " in (root / "docs" / "guides" / "testing.md").read_text()
