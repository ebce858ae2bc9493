from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mgem_agent.cli.chat.editor import edit_text
from mgem_agent.errors import InputError


def editor(folder: Path, program: str) -> str:
    path = folder / "an editor.py"
    path.write_text(program)
    return f"{sys.executable} '{path}'"


def test_what_is_saved_is_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; f = open(sys.argv[1], 'a'); f.write(' at night'); f.close()"
    monkeypatch.setenv("VISUAL", editor(tmp_path, program))
    assert edit_text("a fox") == "a fox at night"


def test_an_editor_that_fails_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "raise SystemExit(1)"))
    assert edit_text("a fox") is None
    monkeypatch.setenv("EDITOR", "no-such-editor")
    with pytest.raises(
        InputError, match=r"^The editor 'no-such-editor' was not found\. Set EDITOR to an editor, such as"
    ):
        edit_text("")
