from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgem_agent.cli import serve_ray
from mgem_agent.cli.app import app
from mgem_agent.errors import InputError
from mgem_agent.scale.serve_app import Replicas, ServePlan

MODEL = ["-m", "http://127.0.0.1:9/v1#m", "-g", "flat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--replicas", "reasoner=2"], "--replicas and --gpus apply only to a server on Ray"),
        (["--ray", "local", "--mcp"], "--mcp does not run on Ray"),
        (["--ray", "local"], "needs the package 'ray'. Run: pip install 'mgem-agent[ray]'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["serve", *MODEL, *options], env={"MGEM_HOME": str(tmp_path)})
    assert result.exit_code == 1 and message in result.stderr


def test_the_arguments_of_serve_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(serve_ray, "_application", lambda *arguments: seen.append(arguments))
    serve_ray.app({"reasoner": "2", "generator": "1-4", "gpus": "0.5", "generators": "flat nano"})
    serve_ray.app({})
    [(_, names, plan), (settings, default, one)] = seen
    assert (names, plan) == (["flat", "nano"], ServePlan(Replicas(), Replicas(2, 2), Replicas(1, 4), 0.5))
    assert (default, one) == ([settings.generator], ServePlan())
    with pytest.raises(InputError, match="gpus='many' is not a number"):
        serve_ray.app({"gpus": "many"})


def test_off_loopback_all_replicas_need_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_SERVER__HOST", "0.0.0.0")
    with pytest.raises(InputError, match="needs a token that all its replicas know. Set MGEM_SERVER_TOKEN"):
        serve_ray.app({})
