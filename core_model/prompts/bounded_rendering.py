"""Compile a chat template so that rendering ends soon and takes little memory, whatever the template does.

A template comes with a model, so anyone may have written it. transformers runs it in Jinja's sandbox, which keeps it
from files and code but not from nested loops and huge strings. Here every loop counts its steps, and operators,
filters and methods that make strings check their length first.
"""

from __future__ import annotations

import functools
import inspect
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import jinja2
from jinja2 import nodes
from transformers.utils import chat_template_utils

from mgem_agent.errors import PromptError

__all__ = ["MAX_LENGTH", "MAX_STEPS", "bounded_rendering"]

MAX_STEPS = 1_000_000
"""Most steps of all loops of one rendering."""

MAX_LENGTH = 50_000_000
"""Most characters or items of a value that a template makes."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "%": operator.mod,
    "*": operator.mul,
    "**": operator.pow,
    "+": operator.add,
}
_GROWING = ("center", "format", "indent", "join", "ljust", "replace", "rjust", "zfill")
"""Methods and filters whose result may be much longer than their text."""

_MAX_EXPONENT = 64
_MAX_FORMAT_WIDTH = 1_000

_count = threading.local()


@contextmanager
def bounded_rendering() -> Iterator[None]:
    """Let transformers render with limits; it compiles a template where it renders it, so there is no other way in.

    Only one thread may do so at a time.
    """
    module: Any = chat_template_utils
    plain = module._compile_jinja_template
    module._compile_jinja_template = _bounded_template
    try:
        yield
    finally:
        module._compile_jinja_template = plain


def _bounded_template(template: str) -> jinja2.Template:
    _count.steps = 0
    return _compile(template)


@functools.lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    """Compile a template with the tags and functions of transformers, in an environment of its own."""
    module: Any = chat_template_utils
    compile_alone: Any = inspect.unwrap(module._cached_compile_jinja_template)
    environment: Any = compile_alone("").environment  # compiling evaluates constants, so it needs the limits too
    environment.intercepted_binops = frozenset(_OPERATORS)
    environment.call_binop = _calculate
    environment.call = functools.partial(_call, environment.call)
    environment.mgem_step, environment.mgem_joined = _step, _joined
    bounded = {
        name: _bounded_filter(name, environment.filters[name]) for name in _GROWING if name in environment.filters
    }
    environment.filters = {**environment.filters, **bounded}
    tree = environment.parse(template)
    for loop in tree.find_all(nodes.For):
        loop.iter = _environment_call("mgem_step", [loop.iter])
    _bound_concatenation(tree)
    tree.set_environment(environment)
    compiled: jinja2.Template = environment.from_string(tree)
    return compiled


def _environment_call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    """Call a function of the environment, which a template cannot replace by setting a variable."""
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None, lineno=arguments[0].lineno)


def _bound_concatenation(node: nodes.Node) -> None:
    for field, value in list(node.iter_fields()):
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, nodes.Node):
                _bound_concatenation(child)
        made = [
            _environment_call("mgem_joined", child.nodes) if isinstance(child, nodes.Concat) else child
            for child in children
        ]
        setattr(node, field, made if isinstance(value, list) else made[0])


def _step(items: Any) -> Any:
    """Count the items of a loop before it begins."""
    if not hasattr(items, "__len__"):
        if not isinstance(items, Iterable):
            return items  # Jinja reports it
        items = list(islice(items, MAX_STEPS + 1))
    _count.steps = getattr(_count, "steps", 0) + len(items)
    if _count.steps > MAX_STEPS:
        raise PromptError(
            f"The chat template may not terminate: its loops take more than {MAX_STEPS:,} steps. Give another: "
            "chat_template=…, or the name of a prompt_template."
        )
    return items


def _joined(*parts: Any) -> str:
    texts = [str(part) for part in parts]
    _check_length(sum(map(len, texts)))
    return "".join(texts)


def _calculate(context: Any, sign: str, left: Any, right: Any) -> Any:
    """Apply an operator if its result cannot be too long."""
    sizes = [_length(side) for side in (left, right)]
    if sign == "*":
        numbers = [side for side in (left, right) if isinstance(side, int)]
        _check_length(max(sizes) * max(numbers, default=1))
    elif sign == "+":
        _check_length(sum(sizes))
    elif sign == "**" and isinstance(right, int) and right > _MAX_EXPONENT:
        _check_length(MAX_LENGTH + 1)
    elif sign == "%" and isinstance(left, str):
        _check_widths(left, right if isinstance(right, tuple) else (right,))
    return _OPERATORS[sign](left, right)


def _call(plain: Callable[..., Any], context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
    """Call what a template calls; a text's method only if its result cannot be too long."""
    method = inspect.unwrap(function) if callable(function) else function  # the sandbox wraps `format`
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(owner, str) and name in _GROWING:
        _check_growth(name, owner, [*arguments, *named.values()])
    return plain(context, function, *arguments, **named)


def _bounded_filter(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)  # with Jinja's marks of what it passes first
    def bounded(*arguments: Any, **named: Any) -> Any:
        first = 1 if hasattr(plain, "jinja_pass_arg") else 0
        value = arguments[first]
        if name == "join" and not hasattr(value, "__len__"):
            value = list(islice(value, MAX_STEPS + 1))
            arguments = (*arguments[:first], value, *arguments[first + 1 :])
        _check_growth(name, value, [*arguments[first + 1 :], *named.values()])
        return plain(*arguments, **named)

    return bounded


def _check_growth(name: str, value: Any, arguments: list[Any]) -> None:
    """Refuse a method or filter whose result may be too long."""
    text = value if isinstance(value, str) else ""
    width = max((each for each in arguments if isinstance(each, int)), default=0)
    longest = max(map(_length, arguments), default=0)
    if name == "replace":
        _check_length(len(text) * longest)
    elif name == "indent":
        _check_length(len(text) + (text.count("\n") + 1) * max(width, longest))
    elif name == "join":
        items = arguments[0] if text and arguments else value
        sizes = [_length(item) for item in items] if hasattr(items, "__len__") else []
        _check_length(sum(sizes) + len(sizes) * max(len(text), longest if items is value else 0))
    elif name == "format":
        _check_widths(text, arguments)
    else:
        _check_length(max(width, len(text)))


def _check_widths(text: str, values: Iterable[Any]) -> None:
    """Refuse a format with a large width, in the text or as a value of its own."""
    runs = "".join(letter if letter.isdigit() else " " for letter in text).split()
    if (
        any(int(run) > _MAX_FORMAT_WIDTH for run in runs)
        or ("*" in text or "{" in text)
        and any(isinstance(value, int) and value > MAX_LENGTH for value in values)
    ):
        _check_length(MAX_LENGTH + 1)


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise PromptError(
            f"The chat template makes a text of more than {MAX_LENGTH:,} characters. Give another: chat_template=…, or "
            "the name of a prompt_template."
        )
