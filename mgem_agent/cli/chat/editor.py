"""Write a message in the user's text editor."""

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
    """Open text in the editor that `VISUAL` or `EDITOR` names, or in a common one, and wait until it closes.

    Args:
        text: The initial text.

    Returns:
        The saved text; None if the editor exited with an error.

    Raises:
        InputError: If no editor is found.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    command = shlex.split(named) if named else [name for name in USUAL if shutil.which(name)][:1]
    if not command or shutil.which(command[0]) is None:
        raise InputError(f"The editor {named!r} was not found. Set EDITOR to an editor, such as EDITOR=vim.")
    with tempfile.TemporaryDirectory(prefix="mgem-") as folder:
        path = Path(folder, "message.md")
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([*command, str(path)], check=False)
        return path.read_text(encoding="utf-8", errors="replace") if done.returncode == 0 else None
