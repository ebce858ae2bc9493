"""Import transformers and diffusers without the packages that they import only because they are installed.

transformers and diffusers import each optional package that they find, such as peft, bitsandbytes, torchao and torch's
compiler. That takes several seconds of CPU time, for what most programs never use. Within [`deferred_imports`], such an
import at the top of one of their modules gives a [`DeferredObject`], which imports the package at its first use.

Nothing is reported as missing, and nothing in `sys.modules` is replaced: other code, in any thread, imports the same
packages as usual.

The rules name modules of the releases in `constraints.txt`. In a release that has other modules, a rule that matches
nothing only makes the start slower.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import resolve_name
from types import SimpleNamespace
from typing import Any

from mgem_agent.deferred_object import DeferredObject, load_deferred
from mgem_agent.extras import is_installed
from mgem_agent.import_structure import kept_scan

__all__ = ["deferred_imports"]

_IMPORTERS = frozenset({"accelerate", "diffusers", "timm", "torchvision", "transformers"})
"""Packages whose imports are deferred."""

_OPTIONAL = (
    "bitsandbytes",
    "ftfy",
    "gguf",
    "onnxruntime",
    "peft",
    "psutil",
    "requests",
    "scipy",
    "sklearn",
    "timm",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed._composable",
    "torch.distributed._functional_collectives",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.attention.flex_attention",
    "torchao",
    "torchvision",
)
"""What they import from elsewhere, each with its submodules."""

_OWN = tuple(
    (re.compile(importer), re.compile(module))
    for importer, module in (
        (r"diffusers\.models\.(autoencoders|controlnets|transformers|unets)", r"diffusers\.models\..*"),
        (r"diffusers\.pipelines\.auto_pipeline", r"diffusers\.(models|pipelines)\..*"),
        (r"diffusers\.quantizers\.auto", r"diffusers\.quantizers\..*"),
        (r"torchvision", r"torchvision\.(datasets|io|models|ops)"),
        (r"transformers\.(?!distributed\.(?!mixin)).*", r"transformers\.distributed\.(?!mixin).*"),
        (r"transformers\.loss\.loss_utils", r"transformers\.loss\..*"),
        (r"transformers\.quantizers\.auto", r"transformers\.quantizers\.quantizer_.*"),
    )
)
"""Which module defers which of its own package: tables of all classes, and what only some hardware uses."""

_COMPILER = "torch._dynamo"
_IN_FUNCTIONS = {
    "diffusers.pipelines.pipeline_loading_utils": ("peft",),
    "diffusers.utils.peft_utils": ("peft.tuners.tuners_utils",),
    "torch._compile": (_COMPILER,),
    "transformers.distributed.fsdp": ("torch.distributed.fsdp",),
    "transformers.distributed.utils": ("torch.distributed.tensor",),
}
"""Imports within functions, to check the class of what is loaded and to hide a function from the compiler."""

_MARKS = frozenset({"allow_in_graph", "assume_constant_result"})
"""Decorators of torch's compiler that return the function or class itself, marked for the compiler."""

_lock = threading.RLock()
_depth = 0
_undo: list[Callable[[], None]] = []
_original_import = builtins.__import__


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Defer imports that transformers, diffusers and what they build on may not need.

    It can be nested, and entered in several threads. What was deferred stays so after the end, and is imported when it
    is first used. A process of a distributed run, which `RANK` shows, imports everything as usual.
    """
    global _depth
    if "RANK" in os.environ:
        yield
        return
    with _lock:
        _depth += 1
        if _depth == 1:
            _begin()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                while _undo:
                    _undo.pop()()


def _begin() -> None:
    global _original_import
    if builtins.__import__ is not _import:
        _original_import = builtins.__import__
        _replace(builtins, "__import__", _import)
    _prepare_torch()


def _replace(owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the end of the context, unless other code sets it in the meantime."""
    before = vars(owner).get(name)

    def undo() -> None:
        if vars(owner).get(name) is not value:
            return
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    setattr(owner, name, value)
    _undo.append(undo)


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Take the place of `builtins.__import__`."""
    importer = str((globals or {}).get("__name__"))
    is_importer = importer.partition(".")[0] in _IMPORTERS
    if globals is None or not _depth or not (is_importer or importer in _IN_FUNCTIONS):
        return _original_import(name, globals, locals, fromlist or (), level)
    if (is_importer and locals is globals) or name in _IN_FUNCTIONS.get(importer, ()):
        _prepare_torch()
        module = resolve_name("." * level + name, globals.get("__package__")) if level else name
        found = _deferred(importer, module, globals, fromlist or ())
        if found is not None:
            return found
    imported = _original_import(name, globals, locals, fromlist or (), level)
    if importer == "transformers" and fromlist and "define_import_structure" in fromlist:
        _keep_scans(imported)
    if importer == "diffusers.utils.import_utils" and name == "importlib.metadata":
        return _without_listing(imported)
    return imported


def _deferred(importer: str, module: str, namespace: Any, names: Sequence[str]) -> Any:
    """Return what the import statement gets its names from; None if it is not deferred."""
    if "*" in names:
        return None
    if _is_deferred(importer, module):
        if names:
            return SimpleNamespace(**{name: _defer(module, name, namespace) for name in names})
        return _top_of(module, namespace)
    later = {name for name in names if f"{module}.{name}" != importer and _is_own(importer, f"{module}.{name}")}
    later = {name for name in later if f"{module}.{name}" not in sys.modules and is_installed(f"{module}.{name}")}
    if not later:
        return None
    others = tuple(name for name in names if name not in later)
    real = _original_import(module, {}, {}, others, 0) if others else None
    return SimpleNamespace(
        **{name: _defer(f"{module}.{name}", None, namespace) for name in later},
        **{name: getattr(real, name) for name in others},
    )


def _is_deferred(importer: str, module: str) -> bool:
    if module in sys.modules:
        return False
    if module in _IN_FUNCTIONS.get(importer, ()):
        return _is_installed(module.partition(".")[0])  # to look for a submodule would import its package
    if module.partition(".")[0] == importer.partition(".")[0]:
        return _is_own(importer, module)
    root = next((name for name in _OPTIONAL if f"{module}.".startswith(f"{name}.")), None)
    return root is not None and _is_installed(root)


@functools.cache
def _is_own(importer: str, module: str) -> bool:
    return any(theirs.fullmatch(importer) and deferred.fullmatch(module) for theirs, deferred in _OWN)


_is_installed = functools.cache(is_installed)


def _defer(module: str, name: str | None, namespace: Any) -> Any:
    if module == _COMPILER:
        return _DeferredCompiler(module, None, namespace) if name is None else _compiler_part(name, namespace)
    return DeferredObject(module, name, namespace)


def _top_of(module: str, namespace: Any) -> Any:
    """Return what `import a.b.c` binds to `a`, and from which `import a.b.c as d` takes `b` and then `c`."""
    found = _defer(module, None, namespace)
    while "." in module:
        module, _, name = module.rpartition(".")
        found = _PackageWithDeferred(sys.modules.get(module) or _defer(module, None, namespace), name, found)
    return found


class _PackageWithDeferred:
    """A package one of whose submodules is deferred."""

    def __init__(self, package: Any, name: str, submodule: Any) -> None:
        self.__dict__.update({"_package": package, name: submodule})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)


class _LaterMapping(Mapping[str, list[str]]):
    """A mapping that is made when it is first read."""

    def __init__(self, make: Callable[[], Mapping[str, list[str]]]) -> None:
        self._make = functools.cache(make)

    def __getitem__(self, key: str) -> list[str]:
        return self._make()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())


def _without_listing(package: Any) -> Any:
    """Return `importlib` for diffusers, which lists the files of all distributions at once and seldom needs them."""
    metadata = package.metadata
    listed = _LaterMapping(metadata.packages_distributions)
    return _PackageWithDeferred(
        package, "metadata", _PackageWithDeferred(metadata, "packages_distributions", lambda: listed)
    )


def _keep_scans(import_utils: Any) -> None:
    """Keep what transformers reads of its files: it reads them twice, and its cache is smaller than their number."""
    scan: Any = getattr(import_utils, "create_import_structure_from_path", None)
    if hasattr(scan, "__wrapped__"):
        import_utils.create_import_structure_from_path = kept_scan(scan.__wrapped__)


def _prepare_torch() -> None:
    """Defer torch's compiler, which transformers and diffusers reach through torch as well."""
    torch: Any = sys.modules.get("torch")
    with _lock:
        if _COMPILER in sys.modules or not hasattr(torch, "compiler") or "_dynamo" in vars(torch):
            return
        _replace(torch, "_dynamo", _DeferredCompiler(_COMPILER, None, vars(torch)))
        for mark in _MARKS:
            _replace(torch.compiler, mark, functools.partial(_mark_later, mark))
        _replace(torch.compiler, "disable", _disabled_later(torch.compiler.disable))


class _DeferredCompiler(DeferredObject):
    """torch's compiler. Its marks on functions and classes are made when it is imported."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if _COMPILER not in sys.modules:
            if name in _MARKS:
                return functools.partial(_mark_later, name)
            if name == "disable":
                return _disabled_later(lambda *args, **options: load_deferred(self).disable(*args, **options))
            if name == "eval_frame":  # to check whether a module is compiled
                frames, compiled = f"{_COMPILER}.{name}", "OptimizedModule"
                return _PackageWithDeferred(
                    DeferredObject(frames, None, {}), compiled, DeferredObject(frames, compiled, {})
                )
        return super().__getattribute__(name)


def _compiler_part(name: str, namespace: Any) -> Any:
    if name in _MARKS:
        return functools.partial(_mark_later, name)
    return DeferredObject(_COMPILER, name, namespace)


def _mark_later(mark: str, marked: Any) -> Any:
    """Return a function or class that is marked once the compiler is imported: at once if it is."""
    from wrapt import register_post_import_hook

    register_post_import_hook(lambda compiler: getattr(compiler, mark)(marked), _COMPILER)
    return marked


def _disabled_later(disable: Callable[..., Any]) -> Callable[..., Any]:
    """Return `torch.compiler.disable` that imports the compiler only if the program has done so."""

    @functools.wraps(disable)
    def later(fn: Any = None, *args: Any, **options: Any) -> Any:
        if _COMPILER in sys.modules or (fn is not None and not inspect.isfunction(fn)):
            return disable(fn, *args, **options)
        if fn is None:
            return lambda function: later(function, *args, **options)

        @functools.wraps(fn)
        def called(*inputs: Any, **named: Any) -> Any:
            if _COMPILER not in sys.modules:
                return fn(*inputs, **named)
            return disabled()(*inputs, **named)

        disabled = functools.cache(lambda: disable(fn, *args, **options))
        vars(called).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=options.get("reason"))
        return called

    return later
