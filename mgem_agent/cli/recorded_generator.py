"""What draws a picture again whose record comes out of a file.

The record of a picture or a story names its generator, with the address of a server or the place of weights. Whoever
wrote the file chose that name, so nothing is sent there and nothing is loaded from there before a person has seen the
name and agreed. What the settings name, and what names nothing outside this program, needs no question.
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
    """Return the name by which a recorded generator is made.

    Args:
        recorded: From the file; secrets in it, and addresses and folders in a picture, were left out when it was
            written.
        settings: Whose `generator` is meant, where it is the same one.
    """
    from mgem_agent.artifacts.shareable import shareable_name

    own = settings.generator
    return own if recorded in (own, redact(own), shareable_name(own)) else recorded


def agree_to_generators(recorded: Iterable[str], settings: Settings, *, source: str, yes: bool) -> None:
    """Ask a person about each generator that a file names, unless it needs no question.

    Args:
        recorded: Names out of the file.
        settings: Whose `generator` is trusted.
        source: The file, for the question.
        yes: Whether all of them are agreed to already.

    Raises:
        InputError: If one is refused, or nobody is there to be asked.
    """
    for name in dict.fromkeys(recorded):
        if yes or ":" not in name or configured_name(name, settings) == settings.generator:
            continue
        what = f"{source!r} says that {name!r} drew it. That name comes out of the file"
        if not _is_person():
            raise InputError(
                f"{what}, and nobody is there to agree to it. Nothing was sent. Add --yes to use it, or --generator "
                f"with another one."
            )
        if not confirm(f"{what}. Send the prompt and its pictures there?"):
            raise InputError(f"{name!r} was refused, and nothing was sent. Name another one: --generator NAME")


def _is_person() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()
