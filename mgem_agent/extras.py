"""The packages that only some features need, and the extra of mgem-agent that installs each.

A plain `pip install mgem-agent` has no torch. A feature that needs a package of an extra raises a
:class:`~mgem_agent.errors.MissingDependencyError` that names the command to install it: either before it starts
(:func:`require_packages`) or when an import fails (:func:`explain_missing`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from mgem_agent.errors import MissingDependencyError

__all__ = ["EXTRAS", "explain_missing", "is_installed", "missing_package", "require_packages"]

EXTRAS = {
    "deepspeed": {"deepspeed": "deepspeed"},
    "eval": {"torch_fidelity": "torch-fidelity", "torchmetrics": "torchmetrics"},
    "gs": {"gcsfs": "gcsfs"},
    "liger": {"liger_kernel": "liger-kernel"},
    "local": {
        "accelerate": "accelerate",
        "diffusers": "diffusers",
        "gguf": "gguf",
        "google.protobuf": "protobuf",
        "huggingface_hub": "huggingface_hub",
        "llguidance": "llguidance",
        "llvmlite": "llvmlite",
        "numba": "numba",
        "numpy": "numpy",
        "open_clip": "open_clip_torch",
        "peft": "peft",
        "safetensors": "safetensors",
        "sentencepiece": "sentencepiece",
        "timm": "timm",
        "tokenizers": "tokenizers",
        "torch": "torch",
        "torchvision": "torchvision",
        "transformers": "transformers",
    },
    "mcp": {"mcp": "mcp", "starlette": "starlette", "uvicorn": "uvicorn"},
    "ocr": {"onnxruntime": "onnxruntime", "rapidocr": "rapidocr"},
    "openai": {"langchain_openai": "langchain-openai"},
    "postgres": {
        "langgraph.checkpoint.postgres": "langgraph-checkpoint-postgres",
        "psycopg": "psycopg",
        "psycopg_pool": "psycopg-pool",
    },
    "quantization": {"bitsandbytes": "bitsandbytes", "torchao": "torchao"},
    "ray": {"ray": "ray"},
    "rl": {"datasets": "datasets", "trl": "trl"},
    "s3": {"s3fs": "s3fs"},
    "serve": {
        "fastapi": "fastapi",
        "multipart": "python-multipart",
        "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.sdk": "opentelemetry-sdk",
        "prometheus_client": "prometheus-client",
        "sse_starlette": "sse-starlette",
        "starlette": "starlette",
        "uvicorn": "uvicorn",
    },
    "train": {"fsspec": "fsspec", "matplotlib": "matplotlib", "pyarrow": "pyarrow"},
}
"""By extra: each module that it installs, with the name of its package. A test compares this with pyproject.toml."""


def is_installed(module: str) -> bool:
    """Return whether a module can be found; only its parent packages are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is missing
        return False
    except ValueError:  # already imported, without a spec
        return True


def require_packages(feature: str, *modules: str) -> None:
    """Check that modules are installed, without importing them.

    Args:
        feature: What needs them, as the start of a sentence.
        *modules: Names of modules.

    Raises:
        MissingDependencyError: For the first that is missing.
    """
    for module in modules:
        if not is_installed(module):
            raise _missing(feature, module)


@contextmanager
def explain_missing(feature: str) -> Iterator[None]:
    """Convert a failed import of an extra's package to an error that names the command; other errors are unchanged.

    Args:
        feature: What needs the package, as the start of a sentence.

    Raises:
        MissingDependencyError: If a package of an extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        missing = missing_package(error, feature)
        if missing is None:
            raise
        raise missing from error


def missing_package(error: Exception, feature: str) -> MissingDependencyError | None:
    """Return the error that names the command, if an import failed because a package of an extra is not installed.

    Args:
        error: The failed import. The error of an installed but broken package is not explained.
        feature: What needs the package, as the start of a sentence.
    """
    name = error.name if isinstance(error, ImportError) else None
    if name is None or _find(name) is None or is_installed(name):
        return None
    return _missing(feature, name)


def _missing(feature: str, module: str) -> MissingDependencyError:
    package, extra = _find(module) or (module.partition(".")[0], None)
    return MissingDependencyError(feature, package, extra)


def _find(module: str) -> tuple[str, str] | None:
    """Return the package that a module belongs to, and the extra that installs it."""
    for extra, packages in EXTRAS.items():
        for name, package in packages.items():
            if f"{module}.".startswith(f"{name}."):
                return package, extra
    return None
