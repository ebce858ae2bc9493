"""Writing a message in the person's own editor."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from mgem_agent.errors import InputError

__all__ = ["edit_text"]

USUAL = ("sensible-editor", "nano", "vim", "vi", "notepad")


def edit_text(text: str) -> str | None:
    """Open a text in the editor that `VISUAL` or `EDITOR` names, or in a usual one, and wait for it.

    Args:
        text: What stands there at first.

    Returns:
        What was saved; None where the editor was left with an error.

    Raises:
        InputError: If there is no editor.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    command = shlex.split(named) if named else [name for name in USUAL if shutil.which(name)][:1]
    if not command or shutil.which(command[0]) is None:
        raise InputError(f"There is no editor {named!r}. Set EDITOR to one, such as EDITOR=vim.")
    with tempfile.TemporaryDirectory(prefix="mgem-") as folder:
        path = Path(folder, "message.md")
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([*command, str(path)], check=False)
        return path.read_text(encoding="utf-8", errors="replace") if done.returncode == 0 else None
