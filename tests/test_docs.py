"""The documentation site: pages from the code are complete, and the page of the public API names what is public."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import FunctionType, ModuleType
from xml.etree import ElementTree

import pytest
import yaml
from typer.main import get_command

from mgem_agent.cli.app import app
from mgem_agent.core_model.checkpoints import RELEASED_CHECKPOINTS
from mgem_agent.settings import setting_names
from mgem_agent.workflows import CharacterRecipe, SceneRecipe, StoryRecipe

NAMES = re.compile(r"^::: (\S+)$", re.MULTILINE)


def public_modules(root: Path) -> list[str]:
    return NAMES.findall((root / "docs/reference/api.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", root / "docs/reference_pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(pages: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("docs")
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in pages.write_pages(folder)}


def test_every_command_is_on_its_page(written: dict[str, str]) -> None:
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"## `mgem {name}`" in written["reference/cli.md"]


def test_every_setting_is_on_its_page(written: dict[str, str]) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `MGEM_\w+` \| .+ \| .+ \|$", written["reference/settings.md"], re.MULTILINE)
    assert sorted(rows) == sorted(setting_names())


def test_every_field_of_a_recipe_is_on_its_page(written: dict[str, str]) -> None:
    for name in StoryRecipe.model_fields:
        assert f"| `{name}` |" in written["reference/story-recipe.md"]


def test_the_graph_has_every_node_and_edge(written: dict[str, str]) -> None:
    figure = ElementTree.fromstring(written["reference/agent-graph.svg"])
    assert "\n\n" not in written["reference/agent-graph.svg"], "a blank line would end the figure in Markdown"
    nodes = [each.text for each in figure.iter("text")]
    assert nodes == ["start", "reason", "confirm", "draw", "look", "answer", "end"]
    edges = {title.text for title in figure.iter("title")}
    assert len(edges) == 15 and {"start → reason", "reason → confirm", "look → draw", "answer → end"} <= edges


def test_a_graph_has_straight_edges_between_neighbours_and_arcs_elsewhere(pages: ModuleType) -> None:
    figure = ElementTree.fromstring(pages.graph_svg(["a", "b", "c"], [("a", "b"), ("a", "c"), ("c", "a")]))
    straight, forward, backward = (path.attrib["d"] for path in figure.iter("path") if len(path))
    assert straight == "M240 47V77"
    assert forward.startswith("M296 38C") and forward.endswith(" 296 150")
    assert backward.startswith("M184 150C") and backward.endswith(" 184 38")


def test_public_modules_have_documented_names(root: Path) -> None:
    for name in public_modules(root):
        module = importlib.import_module(name)
        assert module.__all__, name
        for each in module.__all__:
            value = getattr(module, each)
            assert not isinstance(value, type | FunctionType) or value.__doc__, f"{name}.{each} has no docstring"


def test_documents_import_public_names_only(root: Path) -> None:
    public = set(public_modules(root)) | {"mgem_agent.errors"}
    wrong = []
    for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(
            r"^(?:>>> |\.\.\. )?from (mgem_agent[\w.]*) import ([\w, ]+?)(?:  #.*)?$", text, re.MULTILINE
        ):
            known = importlib.import_module(module).__all__ if module in public else []
            wrong += [f"{page.name}: {module}.{name}" for name in re.split(r",\s*", names) if name not in known]
    assert wrong == []


def test_every_page_is_in_the_navigation(root: Path, pages: ModuleType) -> None:
    text = (root / "mkdocs.yml").read_text(encoding="utf-8")

    def flat(entries: object) -> list[str]:
        if isinstance(entries, str):
            return [entries]
        values = entries.values() if isinstance(entries, dict) else entries
        return [page for each in values for page in flat(each)]  # type: ignore[attr-defined]

    on_disk = {str(path.relative_to(root / "docs")) for path in (root / "docs").rglob("*.md")}
    made = {name for name in pages.PAGES if name.endswith(".md")}
    assert set(flat(yaml.safe_load(text)["nav"])) == on_disk | made


def test_the_page_of_the_checkpoints_has_each_with_its_sizes(root: Path) -> None:
    page = (root / "docs/guides/checkpoints.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| MGM-.*$", page, re.MULTILINE)]
    assert [row[0] for row in rows] == [it.name for it in RELEASED_CHECKPOINTS]
    for row, it in zip(rows, RELEASED_CHECKPOINTS, strict=True):
        assert row[1:4] == [it.language_model, f"{it.low_res_size} and {it.high_res_size}", str(it.num_image_tokens)]
        text = it.text_config
        head = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        cache = 1000 * 2 * text["num_hidden_layers"] * text["num_key_value_heads"] * head * 2
        assert row[-1] == f"{cache / 1e9:.2f}"
        assert float(row[5]) == pytest.approx(2 * float(row[4].removesuffix(" B")), abs=0.11)


def test_the_guide_to_stories_has_every_field_of_a_recipe(root: Path) -> None:
    page = (root / "docs/guides/stories.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    for recipe in (StoryRecipe, SceneRecipe, CharacterRecipe):
        assert set(recipe.model_fields) <= named
