"""The status and code of each kind of error."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import GeneratorOutputError, MgemError, StorageError, ToolError
from mgem_agent.server.http_errors import error_body
from mgem_agent.sessions.database import SessionDatabaseError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SessionDatabaseError("The disk is full."), (503, "storage_unavailable")),
        (StorageError("The bucket is gone."), (503, "storage_unavailable")),
        (GeneratorOutputError("No picture came."), (502, "generator_failed")),
        (ToolError("No picture came."), (502, "generator_failed")),
        (MgemError("Something else."), (500, None)),
    ],
)
def test_an_error_has_the_code_of_its_kind(error: MgemError, told: tuple[int, str | None]) -> None:
    status, body = error_body(error)
    assert (status, body["error"]["code"]) == told
    assert body["error"]["message"] == str(error)


def test_a_picture_that_cannot_be_written_is_no_fault_of_a_generator(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_atomically(tmp_path / "file" / "picture.png", b"")
    assert caught.value.retryable
    assert error_body(caught.value)[0] == 503
