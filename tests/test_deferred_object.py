"""Objects whose module is imported at their first use."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.deferred_object import DeferredObject, load_deferred

MODULE = "module_that_is_imported_late"
SOURCE = """
class Box:
    size = 3

    def __init__(self, content=0):
        self.content = content

class Special(dict):
    pass

def double(number):
    return 2 * number

NAMES = ("a", "b")
"""


@pytest.fixture(autouse=True)
def late_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that no test has imported yet."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def deferred(name: str | None, namespace: dict[str, Any] | None = None) -> Any:
    return DeferredObject(MODULE, name, {} if namespace is None else namespace)


def test_a_class_check_imports_nothing() -> None:
    box = deferred("Box")
    assert not isinstance("text", box)
    assert not issubclass(str, (bytes, box))
    assert MODULE not in sys.modules
    assert isinstance(box(), box)
    assert issubclass(box(1).__class__, box)


def test_a_hint_and_a_name_import_nothing() -> None:
    namespace: dict[str, Any] = {"Box": deferred("Box")}
    exec("def of(box: str | Box) -> Box | None: ...\nname = Box.__name__", namespace)
    assert namespace["name"] == "Box"
    assert MODULE not in sys.modules


def test_a_union_in_a_function_is_of_the_class() -> None:
    box = deferred("Box")
    assert isinstance(load_deferred(box)(), str | box)
    assert not isinstance(1, box | str)


def test_the_first_use_imports_the_module_and_puts_the_object_in_its_place() -> None:
    namespace: dict[str, Any] = {}
    double = deferred("double", namespace)
    namespace |= {"double": double, "other": 1}
    assert double(4) == 8
    assert namespace == {"double": sys.modules[MODULE].double, "other": 1}


def test_any_use_is_passed_on() -> None:
    names, module, box = deferred("NAMES"), deferred(None), deferred("Box")
    assert (len(names), list(names), names[1], "a" in names, bool(names)) == (2, ["a", "b"], "b", True, True)
    assert names == ("a", "b")
    assert {names: 1} == {("a", "b"): 1}
    assert module.Box.size == 3
    box.size = 4
    assert module.Box.size == 4
    assert "double" in dir(module)
    assert repr(box) == repr(module.Box)
    assert box.__module__ == MODULE
    assert load_deferred("text") == "text"


def test_a_class_can_be_a_base() -> None:
    special = deferred("Special")

    class More(special):  # type: ignore[misc]  # a class once it is loaded
        pass

    assert More(a=1) == {"a": 1}
    assert More.__mro__[1] is sys.modules[MODULE].Special


def test_a_copy_is_the_object_itself() -> None:
    box = deferred("Box")
    real = load_deferred(deferred("Box"))
    assert copy.deepcopy(box) is copy.copy(box) is pickle.loads(pickle.dumps(box)) is real


def test_a_missing_name_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="nothing_like_it"):
        load_deferred(deferred("nothing_like_it"))
