"""The registry of image generators, by name.

A name is a scheme, or a scheme and a rest that the scheme interprets: `flat`, `openai:gpt-image-2`,
`comfyui:http://127.0.0.1:8188`. Installed packages, this one included, register factories in the entry-point group
`mgem_agent.tools`; a program can also register one at run time. A factory is imported only when its scheme is used, so
a broken package affects only its own generators.

A factory is called with the rest of the name, and the options as keyword arguments. Lists show the first line of its
docstring. If it is a class method, the class may have `CAPABILITIES`, which apply to all its generators and can be
listed without creating one. It may also have `REQUIRES`, the modules that drawing needs: lists show which are missing.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mgem_agent.errors import GeneratorUnavailableError, InputError, MgemError
from mgem_agent.extras import explain_missing, require_packages
from mgem_agent.redaction import remember_secrets
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_generator import ImageGenerator

__all__ = [
    "GeneratorFactory",
    "GeneratorScheme",
    "check_scheme",
    "describe_generators",
    "generator_schemes",
    "make_generator",
    "register_generator",
]

ENTRY_POINT_GROUP = "mgem_agent.tools"
"""Entry-point group in which a package names its factories, by scheme."""

GeneratorFactory = Callable[..., ImageGenerator]
"""Called as `factory(rest, **options)`; the rest is "" if the name is only the scheme."""

SCHEME = re.compile(r"[a-z][a-z0-9_-]*")
METHODS = ("generate", "unload")

_registered: dict[str, GeneratorFactory] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class GeneratorScheme:
    """What is known about a scheme without creating a generator.

    Attributes:
        scheme: The scheme.
        package: The package that registers it, or "" if the running program did.
        description: Description in one sentence.
        capabilities: What all its generators support, or None if that depends on the rest of the name.
        problem: Why it cannot be used, or None.
    """

    scheme: str
    package: str
    description: str = ""
    capabilities: Capabilities | None = None
    problem: str | None = None


def register_generator(scheme: str, factory: GeneratorFactory) -> None:
    """Register a scheme for the running program.

    Args:
        scheme: The scheme: lower-case letters, digits, `-` and `_`.
        factory: Called with the rest of a name, and options as keyword arguments.

    Raises:
        InputError: If the scheme is not valid or is already registered.
    """
    if not SCHEME.fullmatch(scheme):
        raise InputError(
            f"{scheme!r} is not a valid scheme. Use lower-case letters, digits, '-' and '_', with a letter first."
        )
    with _lock:
        if scheme in _registered or scheme in _entry_points():
            raise InputError(f"The generator {scheme!r} is already registered. Choose another name.")
        _registered[scheme] = factory


def generator_schemes() -> tuple[str, ...]:
    """Return the names of all schemes, sorted. Nothing is imported."""
    return tuple(sorted({*_registered, *_entry_points()}))


def describe_generators() -> tuple[GeneratorScheme, ...]:
    """Return all schemes, sorted; those of a broken package are included, with the problem."""
    return tuple(map(_describe, generator_schemes()))


def make_generator(name: str, **options: Any) -> ImageGenerator:
    """Create a generator by its name. No weights are loaded and no server is contacted yet.

    Args:
        name: A scheme, or `scheme:rest`.
        options: Options of the scheme's factory.

    Raises:
        InputError: If the scheme or an option is unknown, or two packages claim the scheme.
        GeneratorUnavailableError: If the package that registers the scheme is broken.
        MissingDependencyError: If importing it needs a package that is not installed.
    """
    remember_secrets({"name": name, **options})
    scheme, _, rest = name.strip().partition(":")
    factory = _find(scheme)
    try:
        inspect.signature(factory).bind(rest, **options)
    except TypeError as error:
        raise InputError(
            f"Generator {scheme!r} does not take the options {', '.join(map(repr, options)) or 'none'}: {error}. "
            f"It takes: {', '.join(_option_names(factory)) or 'none'}."
        ) from error
    generator = factory(rest, **options)
    # No isinstance check against the protocol: reading `capabilities` could load a model.
    lacking = [method for method in METHODS if not callable(getattr(type(generator), method, None))]
    if lacking:
        raise GeneratorUnavailableError(
            f"{scheme!r} does not create an image generator: {type(generator).__name__!r} lacks {', '.join(lacking)}. "
            f"Update the package that registers it."
        )
    return generator


def check_scheme(name: str) -> None:
    """Check that the scheme of a name is known. Nothing is imported.

    Args:
        name: As for `make_generator`.

    Raises:
        InputError: If it is unknown.
    """
    scheme = name.strip().partition(":")[0]
    if scheme not in generator_schemes():
        raise _unknown(scheme)


def _entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Return entry points by scheme, without duplicates from one package that is found twice."""
    found: dict[str, dict[str, importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {scheme: list(points.values()) for scheme, points in found.items()}


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"


def _find(scheme: str) -> GeneratorFactory:
    if scheme in _registered:
        return _registered[scheme]
    points = _entry_points().get(scheme, [])
    if not points:
        raise _unknown(scheme)
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package, points)))
        raise InputError(f"The generator {scheme!r} is registered by {packages}. Uninstall one of them.")
    [point] = points
    try:
        with explain_missing(f"The generator {scheme!r}"):
            factory: GeneratorFactory = point.load()
    except MgemError:
        raise
    except Exception as error:  # a third-party package may raise anything when it is imported
        raise GeneratorUnavailableError(
            f"The generator {scheme!r} of the package {_package(point)!r} cannot be loaded "
            f"({type(error).__name__}: {error}). Update that package or uninstall it."
        ) from error
    if not callable(factory):
        raise GeneratorUnavailableError(
            f"The generator {scheme!r} of the package {_package(point)!r} is a {type(factory).__name__!r} and not "
            f"callable. Update that package or uninstall it."
        )
    return factory


def _unknown(scheme: str) -> InputError:
    known = generator_schemes()
    if not known:
        return InputError(
            "No generator is registered: mgem-agent is not installed as a package. Run: pip install -e . in its folder"
        )
    close = difflib.get_close_matches(scheme, known, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return InputError(f"There is no generator {scheme!r}.{guess} Known: {', '.join(known)}. Run: mgem generators")


def _option_names(factory: GeneratorFactory) -> list[str]:
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    return [
        f"any ({parameter.name})" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        for parameter in parameters
    ]


def _describe(scheme: str) -> GeneratorScheme:
    points = _entry_points().get(scheme, []) if scheme not in _registered else []
    package = " and ".join(sorted(map(_package, points)))
    try:
        factory = _find(scheme)
        maker = getattr(factory, "__self__", factory)
        require_packages(f"The generator {scheme!r}", *getattr(maker, "REQUIRES", ()))
    except MgemError as error:
        return GeneratorScheme(scheme, package, problem=str(error))
    stated = getattr(maker, "CAPABILITIES", None)
    return GeneratorScheme(
        scheme,
        package,
        description=(inspect.getdoc(factory) or "").partition("\n")[0],
        capabilities=stated if isinstance(stated, Capabilities) else None,
    )
