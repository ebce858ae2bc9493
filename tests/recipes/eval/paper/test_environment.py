from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.paper.environment import (
    REQUIREMENTS,
    create_environment,
    creation_commands,
    find_lmms_eval,
)


def test_the_commands_install_lmms_eval_and_this_package(root: Path, tmp_path: Path) -> None:
    venv, pip = creation_commands(tmp_path / "env")
    assert venv[1:] == ["-m", "venv", str(tmp_path / "env")]
    assert pip[-5:] == [*REQUIREMENTS, "-e", f"{root}[local]"]


def test_ci_installs_the_same(root: Path) -> None:
    line = next(line for line in (root / ".ci/lmms-eval").read_text().splitlines() if "pip install" in line)
    assert set(REQUIREMENTS) < set(shlex.split(line))


def test_what_is_missing_is_said_with_the_commands(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no environment for lmms-eval at .*mgem eval paper --create[\s\S]*-m venv"):
        find_lmms_eval(tmp_path / "none")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(InputError, match="does not run: broken"):
        find_lmms_eval(broken)
    told = tmp_path / "told"
    told.write_text('#!/bin/sh\necho \'{"version": "0.7.3", "folder": "/l", "plug_in": false}\'\n')
    told.chmod(0o755)
    with pytest.raises(InputError, match="mgem-agent is not installed in the environment"):
        find_lmms_eval(told)
    told.write_text(told.read_text().replace("false", "true"))
    assert find_lmms_eval(told).tasks == Path("/l/tasks")


def test_a_failed_command_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [[sys.executable, "-c", "raise SystemExit(2)"]]
    monkeypatch.setattr("mgem_agent.recipes.eval.paper.environment.creation_commands", lambda place: failing)
    with pytest.raises(InputError, match="This command failed"):
        create_environment(tmp_path)
