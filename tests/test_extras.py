"""Packages that only some features need: which extra installs each, and the error if one is missing."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from mgem_agent.errors import MissingDependencyError
from mgem_agent.extras import EXTRAS, explain_missing, is_installed, missing_package, require_packages

OTHERS = {"all", "dev", "docs", "testing"}


def normal_names(requirements: list[str]) -> set[str]:
    names = {re.split(r"[\[<>=!~; ]", line)[0] for line in requirements if not line.startswith("mgem-agent")}
    return {name.lower().replace("_", "-") for name in names}


def test_the_extras_are_those_of_the_project(root: Path) -> None:
    optional = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(optional) - OTHERS
    for extra, packages in EXTRAS.items():
        named = normal_names(list(packages.values()))
        also = normal_names(list(EXTRAS["local"].values()))  # listed once, under the extra that is advised
        assert named <= normal_names(optional[extra]) <= named | also, extra


def test_all_is_every_extra_that_a_user_wants(root: Path) -> None:
    optional = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    # built on the user's machine, only for GPUs, for one cloud, or large and for few users
    wanted = sorted(EXTRAS.keys() - {"deepspeed", "gs", "liger", "ray", "rl"})
    assert optional["all"] == [f"mgem-agent[{','.join(wanted)}]"]


@pytest.mark.parametrize(
    ("module", "package", "command"),
    [
        ("torch", "torch", r"'mgem-agent\[local\]'"),
        ("open_clip", "open_clip_torch", r"'mgem-agent\[local\]'"),
        ("google.protobuf", "protobuf", r"'mgem-agent\[local\]'"),
        ("langgraph.checkpoint.postgres", "langgraph-checkpoint-postgres", r"'mgem-agent\[postgres\]'"),
        ("anybodys_package", "anybodys_package", "anybodys_package"),
    ],
)
def test_what_is_missing_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"^It needs the package '{package}'. Run: pip install {command}$"):
        require_packages("It", "pathlib", module)


def test_a_failed_import_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"^A plot needs .* pip install 'mgem-agent\[train\]'$") as caught:
        with explain_missing("A plot"):
            from matplotlib.figure import Figure  # noqa: F401
    assert isinstance(caught.value.__cause__, ImportError)


def test_other_failures_pass_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anybodys_package", None)
    with pytest.raises(ModuleNotFoundError, match="anybodys_package") as caught, explain_missing("It"):
        importlib.import_module("anybodys_package")
    assert type(caught.value) is ModuleNotFoundError
    broken = ImportError("libcudart.so: cannot open", name="torch")  # installed, and broken
    assert missing_package(broken, "It") is None
    assert missing_package(ValueError("torch"), "It") is None
    with pytest.raises(MissingDependencyError) as told, explain_missing("The outer one"):
        raise MissingDependencyError("The inner one", "torch", "local")
    assert str(told.value).startswith("The inner one")


def test_a_module_without_a_spec_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", type(sys)("made_by_hand"))
    assert is_installed("made_by_hand")
    assert not is_installed("no_such_package.part")
