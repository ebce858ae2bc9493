"""The name of a session as one part of an address.

A name may have any printable characters. One of letters, digits, dots, hyphens and underscores is used unchanged; any
other is written as `~` and the base64 of its bytes.
"""

from __future__ import annotations

import base64
import binascii
import re

from mgem_agent.errors import InputError

__all__ = ["session_key", "session_name"]

PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def session_key(name: str) -> str:
    """Return the part of an address for a session.

    Examples:
        >>> session_key("chat-1"), session_key("a/b")
        ('chat-1', '~YS9i')
    """
    if PLAIN.fullmatch(name):
        return name
    return "~" + base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("=")


def session_name(key: str) -> str:
    """Return the name of the session that a part of an address means.

    Raises:
        InputError: If it means none.
    """
    if PLAIN.fullmatch(key):
        return key
    try:
        if not key.startswith("~"):
            raise ValueError(key)
        return base64.b64decode(key[1:] + "=" * (-len(key[1:]) % 4), altchars=b"-_", validate=True).decode("utf-8")
    except (ValueError, binascii.Error) as error:
        raise InputError(f"{key[:80]!r} is not the address of a chat. Choose one of the list of chats.") from error
