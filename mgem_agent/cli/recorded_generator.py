"""Ask before using a generator that is named in a file.

The record of a picture or a story names its generator, which may be a server's address or a folder of weights. The
author of the file chose that name, so the user must agree before anything is sent to it or loaded from it. No question
is asked for the configured generator, or for a name without an address or path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mgem_agent.cli.printing import confirm
from mgem_agent.errors import InputError
from mgem_agent.redaction import redact

if TYPE_CHECKING:
    from mgem_agent.settings import Settings

__all__ = ["agree_to_generators", "configured_name"]


def configured_name(recorded: str, settings: Settings) -> str:
    """Return the name to create a recorded generator by.

    Args:
        recorded: The name in the file. Secrets, and in a picture also addresses and folders, are removed from it when
            the file is written.
        settings: If the recorded name is a shortened form of its `generator`, that full name is returned.
    """
    from mgem_agent.artifacts.shareable import shareable_name

    own = settings.generator
    return own if recorded in (own, redact(own), shareable_name(own)) else recorded


def agree_to_generators(recorded: Iterable[str], settings: Settings, *, source: str, yes: bool) -> None:
    """Ask the user about each generator that a file names, unless it is trusted.

    Args:
        recorded: Names from the file.
        settings: Its `generator` is trusted.
        source: The file, for the question.
        yes: Whether the user has already agreed to all of them.

    Raises:
        InputError: If the user refuses one, or there is no terminal to ask at.
    """
    for name in dict.fromkeys(recorded):
        if yes or ":" not in name or configured_name(name, settings) == settings.generator:
            continue
        what = f"{source!r} names the generator {name!r}. That name comes from the file"
        if not _is_person():
            raise InputError(
                f"{what}, and there is no terminal to ask at. Nothing was sent. Add --yes to use it, or choose another "
                f"one with --generator."
            )
        if not confirm(f"{what}. Send it the prompt and the pictures?"):
            raise InputError(f"{name!r} was refused, and nothing was sent. Choose another one: --generator NAME")


def _is_person() -> bool:
    """Whether standard input is a terminal, so that the user can be asked."""
    return sys.stdin.isatty()
