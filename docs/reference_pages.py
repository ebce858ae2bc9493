"""Writes the reference pages that come from the code: command line, settings, errors, story recipes, agent graph.

`make docs` runs it before the site is built. The pages are not kept in the repository.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PAGES", "graph_svg", "write_pages"]

FOLDER = Path(__file__).parent
CODE = re.compile(r"``([^`]+)``|:(?:class|func|mod|meth):`~?([^`]+)`")


def command_line() -> str:
    """Every command with its options, as Typer documents them."""
    import typer
    from typer.cli import get_docs_for_click

    from mgem_agent.cli.app import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="mgem")
    text = re.sub(r"\[bold\](.+?)\[/\]", r"`\1`", text).replace("\\[", "[")  # rich's markup
    return text.replace("# `mgem`", "# Command line", 1)


def settings() -> str:
    """Every setting with its variable, its default and its meaning."""
    from mgem_agent.server_settings import ServerSettings
    from mgem_agent.settings import ENVIRONMENT_PREFIX, BudgetSettings, PictureDefaults, Settings
    from mgem_agent.story_settings import StorySettings

    meanings = {
        **_attributes(Settings),
        **{f"picture.{name}": text for name, text in _attributes(PictureDefaults).items()},
        **{f"budget.{name}": text for name, text in _attributes(BudgetSettings).items()},
        **{f"story.{name}": text for name, text in _attributes(StorySettings).items()},
        **{f"server.{name}": text for name, text in _attributes(ServerSettings).items()},
    }
    defaults = {**Settings.model_construct().model_dump(mode="json")}
    for table in ("picture", "budget", "story", "server"):
        defaults |= {f"{table}.{name}": value for name, value in defaults.pop(table).items()}
    rows = [
        f"| `{name}` | `{ENVIRONMENT_PREFIX}{name.upper().replace('.', '__')}` | {_value(value)} | {meanings[name]} |"
        for name, value in defaults.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "A value comes from the first of these places that has it: a flag on the command line, an environment",
            "variable, the user's configuration file, the default. `mgem config` shows every value and where it comes",
            "from; `mgem config set NAME VALUE` changes the file. `MGEM_CONFIG` names another file.",
            "",
            "| setting | variable | default | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def errors() -> str:
    """The tree of errors, and what each one means."""
    from mgem_agent import errors as module

    introduction, _, tree = inspect.getdoc(module).partition("::\n\n")  # type: ignore[union-attr]
    lines = ["# Errors", "", introduction.rstrip(" \n").removesuffix("The tree").strip(), ""]
    lines += ["```text", inspect.cleandoc(tree), "```", "", "::: mgem_agent.errors", ""]
    return "\n".join(lines)


def story_recipe() -> str:
    """The fields of a story recipe, from its JSON Schema."""
    from mgem_agent.workflows import StoryRecipe

    schema = StoryRecipe.model_json_schema()
    lines = [
        "# Story recipes",
        "",
        "A recipe is a YAML or JSON file for `mgem story`. Unknown fields are refused. `mgem story schema` prints the",
        "JSON Schema, for editors that complete and check a file while you write it.",
        "",
        "## Recipe",
        "",
        *_fields(schema),
    ]
    for name, definition in schema["$defs"].items():
        if "properties" in definition:
            lines += [
                "",
                f"## {name}",
                "",
                definition.get("description", "").partition("\n")[0],
                "",
                *_fields(definition),
            ]
    return "\n".join([*lines, ""])


def agent_graph() -> str:
    """The agent's graph as SVG, drawn from the compiled graph."""
    from mgem_agent import MgemAgent
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.sessions import Sessions
    from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

    agent = MgemAgent(
        ScriptedReasoner(script=[]),
        FlatColourGenerator(),
        store=ArtifactStore(tempfile.mkdtemp()),
        sessions=Sessions.in_memory(),
    )
    graph = agent.graph.get_graph()
    return graph_svg(list(graph.nodes), [(edge.source, edge.target) for edge in graph.edges])


def graph_svg(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> str:
    """Draw a graph as an arc diagram: nodes in a column, forward edges on the right, backward edges on the left.

    The SVG has the colour of the text around it, and has no blank line, so that it can be part of a Markdown page.

    Args:
        nodes: Names of the nodes, from top to bottom.
        edges: Pairs of names, each from its source to its target.
    """
    step, width, height, middle = 64, 112, 34, 240
    y = {name: 30 + step * index for index, name in enumerate(nodes)}
    lines = [
        f'<svg viewBox="0 0 {2 * middle} {step * len(nodes)}" role="img" aria-label="The graph" '
        'style="max-width: 32rem; color: inherit" font-size="15" fill="none" stroke="currentColor">',
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor" stroke="none"/></marker>',
    ]
    for source, target in edges:
        span = nodes.index(target) - nodes.index(source)
        side = 1 if span > 0 else -1
        if span == 1:
            path = f"M{middle} {y[source] + height // 2}V{y[target] - height // 2}"
        else:  # it leaves below the middle of a node and enters above it, or the other way round on the left
            edge = middle + side * width // 2
            bend = edge + side * (22 + 30 * abs(span))
            start, end = y[source] + side * 8, y[target] - side * 8
            path = f"M{edge} {start}C{bend} {start} {bend} {end} {edge} {end}"
        title = f"<title>{_node_label(source)} → {_node_label(target)}</title>"
        lines.append(f'<path d="{path}" marker-end="url(#tip)">{title}</path>')
    for name in nodes:
        box = f'x="{middle - width // 2}" y="{y[name] - height // 2}" width="{width}" height="{height}" rx="8"'
        text = f'x="{middle}" y="{y[name] + 5}" text-anchor="middle" fill="currentColor" stroke="none"'
        lines += [f"<rect {box}/>", f"<text {text}>{_node_label(name)}</text>"]
    return "\n".join(["<figure>", *lines, "</svg>", "</figure>", ""])


def _node_label(name: str) -> str:
    return name.strip("_")


def _attributes(model: type) -> dict[str, str]:
    """Return the entries of a docstring's `Attributes:` section, each on one line."""
    section = inspect.getdoc(model).partition("Attributes:\n")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def _value(value: Any) -> str:
    return "none" if value is None else f"`{json.dumps(value)}`"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else _value(field.get("default"))
        yield f"| `{name}` | {_type(field)} | {default} | {field.get('description', '')} |"


def _type(field: Mapping[str, Any]) -> str:
    """A JSON Schema type in a few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if many := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_type(each) for each in many if each.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", "any"))


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": command_line,
    "reference/settings.md": settings,
    "reference/errors.md": errors,
    "reference/story-recipe.md": story_recipe,
    "reference/agent-graph.svg": agent_graph,
}


def write_pages(folder: Path = FOLDER) -> list[Path]:
    """Write every page below a folder, and return their paths."""
    written = []
    for name, page in PAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for each in write_pages():
        print(each, file=sys.stderr)
