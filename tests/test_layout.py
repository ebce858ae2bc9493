"""The layout: four rooms at the root, one installed package, layers that point one way."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from mgem_agent import __version__

LINKS = ("core_model", "recipes", "tools")

# Who may import whom: a room imports rooms of earlier lines only, and never another room of its own line.
LAYERS = (
    ("foreign_markdown", "prompts", "redaction", "text_decoding", "types"),
    ("errors",),
    ("extras", "remote_files", "user_files"),
    ("config_file", "server_settings", "story_settings"),
    ("deferred_object", "import_structure", "meta_device"),
    ("deferred_imports",),
    ("_lazy",),
    ("device_memory",),
    ("core_model", "sessions"),
    ("tools",),
    ("artifacts", "gen"),
    ("chat_models", "settings"),
    ("nano", "resident", "scoring"),
    ("reasoners",),
    ("agent", "doctor"),
    ("langchain", "testing"),
    ("recipes", "workflows"),
    ("server",),
    ("mcp",),
    ("scale",),
    ("cli",),
    ("", "__main__"),  # the page of public names, of every layer
)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str:
    """The part of the name after the package; empty for the package itself."""
    return module.removeprefix("mgem_agent").removeprefix(".").partition(".")[0]


def layer_of(module: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room_of(module) in rooms)


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Imports of a file as (module, name); the name is empty for `import module`; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def broken_rule(importer: str, target: str) -> str:
    """Say which rule an import within the package breaks, or nothing."""
    if room_of(importer) == room_of(target):
        return ""
    if room_of(target) == "recipes" and room_of(importer) not in ("cli", "mcp", "server"):
        return "only the outermost rooms use recipes"
    if layer_of(target) >= layer_of(importer):
        return "a room imports rooms of earlier layers only"
    return ""


@pytest.mark.parametrize(
    ("importer", "target", "rule"),
    [
        ("mgem_agent.errors", "mgem_agent.core_model.mining", "a room imports rooms of earlier layers only"),
        ("mgem_agent.core_model.mining", "mgem_agent.agent.agent", "a room imports rooms of earlier layers only"),
        ("mgem_agent.core_model.mining", "mgem_agent.tools.registry", "a room imports rooms of earlier layers only"),
        ("mgem_agent.tools.registry", "mgem_agent.core_model.mining", ""),
        ("mgem_agent.gen.parser", "mgem_agent.artifacts.store", "a room imports rooms of earlier layers only"),
        ("mgem_agent.chat_models.chat_model", "mgem_agent.agent.agent", "a room imports rooms of earlier layers only"),
        ("mgem_agent.agent.agent", "mgem_agent.workflows.story", "a room imports rooms of earlier layers only"),
        ("mgem_agent.workflows.story", "mgem_agent.cli", "a room imports rooms of earlier layers only"),
        ("mgem_agent.agent.agent", "mgem_agent", "a room imports rooms of earlier layers only"),
        ("mgem_agent.agent.agent", "mgem_agent.recipes.bench", "only the outermost rooms use recipes"),
        ("mgem_agent.recipes.bench", "mgem_agent.workflows", "a room imports rooms of earlier layers only"),
        ("mgem_agent.core_model.mining", "mgem_agent.errors", ""),
        ("mgem_agent.recipes.bench", "mgem_agent.testing", ""),
        ("mgem_agent.workflows.story", "mgem_agent.agent.agent", ""),
        ("mgem_agent.cli.bench", "mgem_agent.recipes.bench", ""),
        ("mgem_agent.server.page", "mgem_agent.recipes.stories", ""),
    ],
)
def test_the_rules_of_the_layers(importer: str, target: str, rule: str) -> None:
    assert broken_rule(importer, target) == rule


def test_every_room_has_a_layer(sources: dict[str, Path]) -> None:
    known = {room for rooms in LAYERS for room in rooms}
    assert {room_of(module) for module in sources} <= known


def test_layers_point_one_way(module_name: str, sources: dict[str, Path]) -> None:
    broken = []
    for module, name in imports_of(sources[module_name]):
        if module == "mgem_agent" and name == "__version__":
            continue
        target = f"{module}.{name}" if f"{module}.{name}" in sources else module
        if is_within(target, "mgem_agent") and (rule := broken_rule(module_name, target)):
            broken.append(f"{target}: {rule}")
    assert broken == []


def circle_of(sources: dict[str, Path]) -> list[str]:
    """Return modules that import each other in a circle, also within functions or for types only; empty if none do."""
    graph = {
        importer: {
            f"{module}.{name}" if f"{module}.{name}" in sources else module
            for module, name in imports_of(path)
            if f"{module}.{name}" in sources or module in sources
        }
        for importer, path in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle(sources: dict[str, Path]) -> None:
    assert circle_of(sources) == []


def test_a_circle_is_found_where_an_import_is_late_or_for_types(tmp_path: Path) -> None:
    sources = {name: tmp_path / f"{name}.py" for name in ("one", "two")}
    sources["one"].write_text("def late():\n    import two\n")
    sources["two"].write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from one import late\n")
    assert set(circle_of(sources)) == {"one", "two"}


def test_recipes_for_any_model_do_not_use_those_of_nano(module_name: str, sources: dict[str, Path]) -> None:
    if is_within(module_name, "mgem_agent.recipes") and not is_within(module_name, "mgem_agent.recipes.nano"):
        used = [module for module, _ in imports_of(sources[module_name])]
        assert [module for module in used if is_within(module, "mgem_agent.recipes.nano")] == []


def test_imports_are_absolute_and_by_the_installed_name(root: Path, sources: dict[str, Path]) -> None:
    wrong = [
        f"{path.relative_to(root)}: {module or name}"
        for path in (*sources.values(), *(root / "tests").rglob("*.py"), root / "cli.py")
        for module, name in imports_of(path)
        if module.split(".")[0] in ("", *LINKS)
    ]
    assert wrong == []


@pytest.mark.parametrize("room", LINKS)
def test_a_room_is_a_folder_with_a_link_in_the_package(root: Path, room: str) -> None:
    assert (root / room).is_dir() and not (root / room).is_symlink()
    assert os.readlink(root / "mgem_agent" / room) == f"../{room}"


def test_packages_equal_the_folders(root: Path, sources: dict[str, Path]) -> None:
    setup = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in sources.items()}
    assert setup["packages"] == sorted(folders)
    assert folders <= set(sources), "a folder of code has no __init__.py"
    assert setup["package-dir"] == {"mgem_agent": "mgem_agent"} | {f"mgem_agent.{room}": room for room in LINKS}


def test_files_have_a_noun_for_a_name(root: Path, room_files: dict[str, Path]) -> None:
    vague = re.compile(r"^(test_)?(common|helpers?|misc|utils?)(\.py)?$")
    paths = [*map(Path, room_files), *(path.relative_to(root) for path in (root / "tests").rglob("*.py"))]
    assert [str(path) for path in paths if any(vague.match(part) for part in path.parts)] == []


def test_tests_mirror_the_rooms(root: Path, sources: dict[str, Path]) -> None:
    """`tests/ROOM/test_NOUN.py` and `test_NOUN_aspect.py` are for NOUN, a module or a folder somewhere in ROOM."""
    strangers = []
    for path in sorted((root / "tests").glob("*/**/test_*.py")):
        room = "mgem_agent." + path.relative_to(root / "tests").parts[0]
        nouns = [name.rpartition(".")[2].strip("_") for name in sources if is_within(name, room)]
        if not any(f"{path.stem}_".startswith(f"test_{noun}_") for noun in nouns):
            strangers.append(str(path.relative_to(root)))
    assert strangers == []


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the source distribution, built from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    built = tmp_path_factory.mktemp("dist")
    for name in ("mgem_agent", *LINKS):
        for path in (root / name).rglob("*"):
            if path.is_symlink():
                (copy / path.relative_to(root)).symlink_to(os.readlink(path))
            elif path.is_file() and "__pycache__" not in path.parts:
                (copy / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                (copy / path.relative_to(root)).write_bytes(path.read_bytes())
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"):
        (copy / name).write_bytes((root / name).read_bytes())

    build("sdist", copy, built)
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(built, filter="data")
    build("wheel", next(path for path in built.iterdir() if path.is_dir()), built)
    return zipfile.ZipFile(next(built.glob("*.whl")))


def build(kind: str, tree: Path, target: Path) -> None:
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=tree, check=True, capture_output=True, timeout=120)


def test_the_wheel_ships_the_package_alone_and_whole(wheel: zipfile.ZipFile, room_files: dict[str, Path]) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == set(room_files)
    assert {name.split("/")[0] for name in wheel.namelist()} == {"mgem_agent", f"mgem_agent-{__version__}.dist-info"}
    assert "mgem_agent/py.typed" in shipped


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"mgem_agent-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nName: mgem-agent\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "mgem = mgem_agent.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")


def test_the_changelog_is_headed_by_this_version(root: Path) -> None:
    """Unreleased comes first, then the releases, newest first; the newest has the number of the package."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    releases = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    assert releases == sorted(set(releases), reverse=True)
    current = tuple(map(int, __version__.split(".")))
    assert current == (releases[0] if releases else (0, 1, 0)), "before the first release the version is 0.1.0"


def test_contributing_is_one_page(root: Path) -> None:
    assert len((root / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 80
