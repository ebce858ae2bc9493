"""A connection to Ray: a cluster by its address, or one that is started on this machine for the time of the work.

Ray is imported here and in the modules that use a connection, and only when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError, ToolError
from mgem_agent.extras import EXTRAS, require_packages

__all__ = ["LOCAL", "RayOptions", "connected"]

LOCAL = "local"
"""Address of a cluster that is started on this machine."""

_STORE_BYTES = 200_000_000
"""Ray's shared memory on this machine: only prompts and rows pass through it; pictures go to files."""


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where and how work runs on Ray.

    Attributes:
        address: `local`, `auto` for the cluster of this machine, `HOST:PORT`, or `ray://HOST:PORT`.
        num_workers: Number of workers, each with its own models.
        num_cpus: CPUs that are reserved for a worker.
        num_gpus: GPUs that are reserved for a worker; may be a part of one.

    Raises:
        InputError: If a number is out of its range.
    """

    address: str = LOCAL
    num_workers: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise InputError(f"The number of workers is {self.num_workers!r}. Give 1 or more.")
        for name in ("num_cpus", "num_gpus"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)!r}. Give 0 or more.")

    @property
    def of_a_worker(self) -> dict[str, float]:
        """The resources of a worker, as arguments of Ray."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}


@contextmanager
def connected(options: RayOptions) -> Iterator[Any]:
    """Connect to Ray inside a `with` block. A local cluster ends with it; the cluster of an address stays.

    Args:
        options: Where.

    Yields:
        The module `ray`. A connection that this process has already is used, and kept.

    Raises:
        MissingDependencyError: If the extra `ray` is not installed.
        ToolError: If the cluster cannot be reached, or has fewer CPUs or GPUs than its workers need.
    """
    require_packages("Work on Ray", *EXTRAS["ray"])
    if options.address != LOCAL:
        _send_token()
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(**_arguments(options))
    except Exception as error:  # Ray raises plain `Exception`, too
        raise ToolError(
            f"Ray at {options.address!r} cannot be reached: {error}. Allowed: 'local', 'auto', 'HOST:PORT' or "
            "'ray://HOST:PORT'. See its nodes with: ray status. If it requires a token, that is RAY_AUTH_TOKEN, or the "
            "file ~/.ray/auth_token of its head."
        ) from error
    try:
        _check_resources(ray, options)
        yield ray
    finally:
        ray.shutdown()


def _send_token() -> None:
    """Send the access token to a cluster if there is one, because `ray start` requires it then.

    Ray reads `RAY_AUTH_MODE` when it is imported, and sends nothing if it is unset.
    """
    named = (os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if any(named) or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _arguments(options: RayOptions) -> dict[str, Any]:
    shared: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if options.address != LOCAL:
        return {"address": options.address, **shared}
    needed = options.num_workers * options.num_cpus
    return {
        "address": LOCAL,
        "num_cpus": max(int(needed + 0.999), os.cpu_count() or 1),
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
        **shared,
    }


def _check_resources(ray: Any, options: RayOptions) -> None:
    """Refuse work that would wait for ever."""
    has = ray.cluster_resources()
    for name, each in (("CPU", options.num_cpus), ("GPU", options.num_gpus)):
        needed = each * options.num_workers
        if needed > has.get(name, 0.0):
            raise ToolError(
                f"{options.num_workers} workers need {needed:g} {name}s, but Ray at {options.address!r} has "
                f"{has.get(name, 0.0):g}. Give fewer --workers, or less to each."
            )
