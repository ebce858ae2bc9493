"""Every public name stands in one sorted list, and each list tells the truth."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import mgem_agent
import mgem_agent.core_model


def exported(tree: ast.Module) -> list[str] | None:
    """The literal `__all__` of a module, or None if it has none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


def place_in_list(name: str) -> tuple[int, str]:
    """Constants come first, then classes, then the rest, each in the order of the alphabet: ruff's RUF022."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def imported_for_type_checkers(path: Path, module: str | None = None) -> set[str]:
    """Names that type checkers see imported, from one module or from any."""
    return {
        alias.asname or alias.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        if isinstance(statement, ast.ImportFrom) and module in (None, statement.module)
        for alias in statement.names
    }


def test_a_module_lists_its_public_names_sorted(module_name: str, sources: dict[str, Path]) -> None:
    tree = ast.parse(sources[module_name].read_text(encoding="utf-8"))
    names = exported(tree)
    assert names is not None, f"{module_name} has no __all__"
    assert names == sorted(set(names), key=place_in_list)


def test_a_module_uses_only_what_others_list(module_name: str, sources: dict[str, Path]) -> None:
    tree = ast.parse(sources[module_name].read_text(encoding="utf-8"))
    wrong = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in sources
        for alias in node.names
        if f"{node.module}.{alias.name}" not in sources
        and alias.name not in (exported(ast.parse(sources[node.module].read_text(encoding="utf-8"))) or [])
    ]
    assert wrong == []


def test_each_listed_name_is_there(imported_module: ModuleType) -> None:
    assert [name for name in imported_module.__all__ if not hasattr(imported_module, name)] == []
    assert imported_module.__doc__ and imported_module.__doc__.strip()


def test_the_package_shows_one_page_of_names(root: Path) -> None:
    loaded_late = imported_for_type_checkers(root / "mgem_agent" / "__init__.py")
    machinery = {"TYPE_CHECKING", "attach"}
    public = {
        name
        for name, value in vars(mgem_agent).items()
        if not name.startswith("_") and not isinstance(value, type(mgem_agent))
    }
    assert set(mgem_agent.__all__) == (public - machinery) | loaded_late | {"__version__"}
    assert set(mgem_agent.__all__) <= set(dir(mgem_agent))


def test_the_names_of_the_model_come_by_way_of_core_model(root: Path) -> None:
    for name in imported_for_type_checkers(root / "mgem_agent" / "__init__.py", "mgem_agent.core_model"):
        assert getattr(mgem_agent, name) is getattr(mgem_agent.core_model, name)
        assert name in mgem_agent.core_model.__all__


def test_core_model_names_the_same_for_type_checkers_and_at_run_time(root: Path) -> None:
    assert imported_for_type_checkers(root / "core_model" / "__init__.py") <= set(mgem_agent.core_model.__all__)


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    expected = (
        r"^module 'mgem_agent' has no attribute 'MiniGemini'\. Loaded when first used: ChatMiniGemini, Conversation"
    )
    with pytest.raises(AttributeError, match=expected):
        mgem_agent.MiniGemini  # noqa: B018
