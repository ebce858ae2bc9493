"""Importing the package, and asking `mgem` for help, loads little and nothing heavy; what is imported is declared."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mgem_agent.extras import EXTRAS

HEAVY = {"accelerate", "diffusers", "langchain", "langgraph", "numpy", "open_clip", "timm", "torch", "transformers"}
MOST_MODULES = 600
"""Modules that a command without a model may load: each takes about half a millisecond."""

MEASURE = """
import json, sys
before = set(sys.modules)
try:
    exec(sys.argv.pop(1))
except SystemExit:
    pass
loaded = set(sys.modules) - before
print(json.dumps([len(loaded), sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def run(code: str, *arguments: str) -> tuple[int, set[str]]:
    """Run code in a new interpreter: the number of modules that it loads, and the names of all packages."""
    command = [sys.executable, "-c", MEASURE, code, *arguments]
    finished = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    num_loaded, packages = json.loads(finished.stderr.splitlines()[-1])
    return num_loaded, set(packages)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("import mgem_agent; dir(mgem_agent)", ()),
        ("import mgem_agent.core_model; dir(mgem_agent.core_model)", ()),
        ("import mgem_agent.tools, mgem_agent.recipes, mgem_agent.testing, mgem_agent.cli, mgem_agent.errors", ()),
        ("from mgem_agent.cli import main; main()", ("--help",)),
        ("from mgem_agent.cli import main; main()", ("--version",)),
        ("from mgem_agent.cli import main; main()", ("no-such-command",)),
    ],
)
def test_it_loads_little_and_nothing_heavy(code: str, arguments: tuple[str, ...]) -> None:
    num_loaded, packages = run(code, *arguments)
    assert packages & HEAVY == set()
    assert "mgem_agent" in packages
    assert num_loaded < MOST_MODULES


def test_a_heavy_name_would_be_noticed() -> None:
    assert "torch" in run("from mgem_agent import PatchInfoMining")[1] & HEAVY


def third_party_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"mgem_agent"}


def declared(root: Path, *extras: str) -> set[str]:
    """Distributions that pyproject.toml asks for, under the one spelling that the index uses."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {normal_name(line) for line in requirements} - {"mgem-agent"}


def normal_name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def undeclared(imported: set[str], asked_for: set[str]) -> set[str]:
    providers = importlib.metadata.packages_distributions()
    normal = {name: {re.sub(r"[-_.]+", "-", dist).lower() for dist in providers.get(name, [name])} for name in imported}
    return {name for name, dists in normal.items() if not dists & asked_for}


def test_the_package_imports_only_what_it_declares(
    root: Path, sources: dict[str, Path], host_packages: set[str]
) -> None:
    imported = set().union(*map(third_party_imports, sources.values())) - host_packages
    assert undeclared(imported, declared(root, *EXTRAS, "testing")) == set()


def test_the_tests_import_only_what_is_declared(root: Path) -> None:
    imported = set().union(*map(third_party_imports, (root / "tests").rglob("*.py")))
    assert undeclared(imported, declared(root, *EXTRAS, "dev")) == set()


def test_development_installs_exact_releases_of_everything_declared(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^,*]*", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in pins}
    assert declared(root, *EXTRAS, "dev") - pinned == set()
