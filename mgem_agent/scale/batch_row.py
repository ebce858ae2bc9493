"""The items of a batch and the rows of its results, as plain JSON values."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from mgem_agent.errors import InputError, MgemError, ToolError
from mgem_agent.redaction import redact

__all__ = ["BatchItem", "BatchRow", "failed_row", "lost_row", "worker_name"]

LOST = (
    "The worker that ran this item ended several times, for instance because its memory was full. Run the command "
    "again with fewer workers to a machine; see the logs of Ray."
)


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One piece of work.

    Attributes:
        key: Its name, unique in the batch.
        data: What to do, as JSON values.
    """

    key: str
    data: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """A hash of what to do; another one means that an earlier result does not count."""
        content = json.dumps(self.data, sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What became of an item: a line of the manifest.

    Attributes:
        key: Name of the item.
        fingerprint: Fingerprint of the item.
        status: `done` or `failed`.
        files: Files that were written, the most important first.
        result: Further results, as JSON values.
        error: Why it failed, and what to do next; empty if it is done.
        error_kind: Name of the error's class; empty if it is done.
        retryable: Whether the same work may succeed later.
        seconds: Time that it took.
        worker: Machine and process that did it.
    """

    key: str
    fingerprint: str
    status: Literal["done", "failed"] = "done"
    files: tuple[str, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    error_kind: str = ""
    retryable: bool = False
    seconds: float = 0.0
    worker: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self) | {"files": list(self.files)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the row of JSON values.

        Raises:
            InputError: If it is not a row.
        """
        try:
            row = cls(**fields)
        except TypeError as error:
            raise InputError(f"This is not the row of a batch: {error}.") from error
        if row.status not in ("done", "failed"):
            raise InputError(f"This is not the row of a batch: its status is {row.status!r}.")
        return replace(row, files=tuple(row.files))


def failed_row(item: BatchItem, error: Exception) -> BatchRow:
    """Return the row of an item that failed.

    Args:
        item: The item.
        error: Why it failed. An error of another package is reported with its class.
    """
    is_ours = isinstance(error, MgemError)
    return BatchRow(
        item.key,
        item.fingerprint,
        status="failed",
        error=str(error) if is_ours else redact(f"Unexpected {type(error).__name__}: {error}"),
        error_kind=type(error).__name__,
        retryable=bool(getattr(error, "retryable", False)),
        worker=worker_name(),
    )


def lost_row(item: BatchItem) -> BatchRow:
    """Return the row of an item whose worker was lost each time."""
    return failed_row(item, ToolError(LOST, retryable=True))


def worker_name() -> str:
    """Return the name of this machine and the number of this process."""
    return f"{platform.node()}:{os.getpid()}"
