"""The syntax of recipe files: JSON, or YAML stricter than its safe loader.

A duplicate key is an error. An alias is refused, because a few of them can expand to fill the memory. `no`, `on` and
dates are read as text.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node

__all__ = ["parse_recipe"]

MAX_DEPTH = 20


def parse_recipe(text: str, *, is_json: bool) -> Any:
    """Read the values of a recipe.

    Args:
        text: Content of the file.
        is_json: Whether it is JSON; otherwise it is YAML.

    Raises:
        ValueError: If it is not valid; the message has one line and names the place.
    """
    try:
        if is_json:
            return json.loads(text, object_pairs_hook=_once)
        return yaml.load(text, Loader=_Loader)  # a safe loader, see above
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, and refuse duplicate keys."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is a duplicate")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """The safe loader, stricter."""

    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Refuse aliases and values that are nested too deeply."""
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not allowed in a recipe; write the value out", mark)
        if self.depth >= MAX_DEPTH:
            raise ComposerError(None, None, "it is nested too deeply", mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse duplicate keys."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise ConstructorError(None, None, f"the key {key!r} is a duplicate or not valid", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `no` as false and `2026-11-22` as a date; in a recipe they are a language and a title.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:timestamp" and not (tag == "tag:yaml.org,2002:bool" and first not in "tTfF")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
