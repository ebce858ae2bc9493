from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mgem_agent.errors import InputError, MissingDependencyError, ToolError
from mgem_agent.scale import ray_cluster
from mgem_agent.scale.ray_cluster import RayOptions, connected


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="The number of workers is 0"):
        RayOptions(num_workers=0)
    with pytest.raises(InputError, match="num_gpus is -1"):
        RayOptions(num_gpus=-1)
    assert RayOptions(num_gpus=0.5).of_a_worker == {"num_cpus": 1.0, "num_gpus": 0.5}


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"Work on Ray needs .* pip install 'mgem-agent\[ray\]'"):
        with connected(RayOptions()):
            pass


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str | None]:
    """A Ray that cannot be reached; the modes in which it was tried."""
    tried: list[str | None] = []

    def init(**arguments: object) -> None:
        tried.append(os.environ.get("RAY_AUTH_MODE"))
        raise ConnectionError("no answer")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setattr(ray_cluster, "require_packages", lambda *names: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # restored at the end
        monkeypatch.delenv(name)
    return tried


@pytest.mark.skipif(os.name == "nt", reason="the home folder is not in HOME there")
@pytest.mark.parametrize(
    ("token", "given", "mode"),
    [("", "", None), ("file", "", "token"), ("RAY_AUTH_TOKEN", "", "token"), ("file", "disabled", "disabled")],
)
def test_a_token_is_sent_where_there_is_one(
    ray: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, given: str, mode: str | None
) -> None:
    if token == "file":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret")
    elif token:
        monkeypatch.setenv(token, "secret")
    if given:
        monkeypatch.setenv("RAY_AUTH_MODE", given)
    with pytest.raises(ToolError, match=r"Ray at '10.0.0.1:6379' cannot be reached: no answer.*RAY_AUTH_TOKEN"):
        with connected(RayOptions("10.0.0.1:6379")):
            pass
    assert ray == [mode]


def test_a_local_cluster_chooses_for_itself(ray: list[str | None]) -> None:
    with pytest.raises(ToolError, match="'local' cannot be reached"):
        with connected(RayOptions()):
            pass
    assert ray == [None]
