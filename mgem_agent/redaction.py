"""Remove passwords and keys from text. Every error, log line, record and picture passes through this module.

Two kinds of secrets are hidden:

- **Known secrets**: values given as a key (an option such as `api_key`, a password in an address), and the values of
  environment variables such as `*_API_KEY`. These values are hidden everywhere.
- **Recognizable secrets**: a password in an address, a query parameter such as `?api_key=`, and an authorization
  header. They are hidden in errors and addresses, but never in the text of a model or a user.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

__all__ = [
    "HIDDEN",
    "is_secret_name",
    "redact",
    "redacted_start",
    "remember_secret",
    "remember_secrets",
    "without_secrets",
]

HIDDEN = "(hidden)"
MIN_SECRET_CHARS = 8
"""Shorter values are not secrets: servers that need no key are given "none" or "EMPTY", which are common words."""

MAX_SECRET_CHARS = 4096
"""Maximum length of a secret that is searched for before a long text is cut."""

SECRET_NAME = re.compile(
    r"(?:^|[^a-z0-9])(?:api|access|secret|private|subscription|account)?[-_]?"
    r"(?:key|token|secret|password|passwd|pwd|passphrase|signature|sig|credential|credentials|auth|authorization)$",
    re.IGNORECASE,
)
SECRET_VARIABLE = re.compile(r".*_(?:API_KEY|API_TOKEN|ACCESS_TOKEN|SECRET_KEY|SECRET_ACCESS_KEY|HUB_TOKEN)|HF_TOKEN")
ADDRESS = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?//[^\s'\"<>`]+")
USER_INFO = re.compile(r"//(?P<user>[^/?#@:]*)(?P<password>:[^@]*(?:@[^/?#@]+)*)?@(?=[^@]*$)")
PORT = re.compile(r":\d{1,5}(?:/|$)")
PARAMETER = re.compile(r"(?P<name>[?&#;][^=&#\s]*)=(?P<value>\(hidden\)|[^&#\s'\")\]}]+)")
HEADER = re.compile(
    r"(?P<name>(?:proxy-)?authorization|x-api-key|api-key)(?P<sign>[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<kind>(?:bearer|basic|token)\s+)?[^\s\"',}\]]+",
    re.IGNORECASE,
)

_known: set[str] = set()
_lock = threading.Lock()


def is_secret_name(name: str) -> bool:
    """Whether an option, setting or query parameter of this name contains a secret.

    Examples:
        >>> [is_secret_name(name) for name in ("api_key", "X-Amz-Signature", "max_tokens", "monkey")]
        [True, True, False, False]
    """
    return SECRET_NAME.search(name) is not None or name.lower().endswith(("apikey", "accesskey"))


def remember_secret(value: object) -> None:
    """Register a value as a secret, so that it is hidden everywhere from now on.

    Args:
        value: A key or a password; None and short words are ignored.
    """
    text = str(getattr(value, "get_secret_value", lambda: value)() or "")
    forms = {text, unquote(text), quote(text, safe="")}
    with _lock:
        _known.update(form for form in forms if len(form) >= MIN_SECRET_CHARS)


def remember_secrets(options: Mapping[str, Any]) -> None:
    """Register the secrets among options: values with secret names, and passwords in addresses.

    Args:
        options: Values by name; nested tables are searched too.
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            remember_secrets(value)
        elif is_secret_name(str(name)):
            remember_secret(value)
        elif isinstance(value, str) and "//" in value:
            for address in ADDRESS.finditer(value):
                _remember_of_address(address[0])


def without_secrets(text: str) -> str:
    """Return text without known secrets.

    Args:
        text: Any text, also a model's answer.
    """
    if len(text) < MIN_SECRET_CHARS:
        return text
    for secret in _secrets():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def redact(text: str) -> str:
    """Return an error, a log line or an address without known and recognizable secrets.

    Args:
        text: Any text except that of a model or a user.

    Examples:
        >>> redact("http://me:secret@host/v1?api_key=abc&size=2 sent Authorization: Bearer abc")
        'http://me:(hidden)@host/v1?api_key=(hidden)&size=2 sent Authorization: Bearer (hidden)'
    """
    text = without_secrets(text)
    if "//" in text:
        text = ADDRESS.sub(lambda found: _plain_address(found[0]), text)
    return HEADER.sub(lambda found: f"{found['name']}{found['sign']}{found['kind'] or ''}{HIDDEN}", text)


def redacted_start(text: object, max_chars: int) -> str:
    """Return the beginning of untrusted text. It is redacted before it is cut, because half a key is also secret.

    Args:
        text: Text from a server.
        max_chars: Maximum number of characters to keep.
    """
    return redact(str(text)[: max_chars + MAX_SECRET_CHARS])[:max_chars]


def _secrets() -> list[str]:
    """Return the known secrets, longest first, because one may contain another."""
    named = {
        value.strip()
        for name, value in os.environ.items()
        if len(value) >= MIN_SECRET_CHARS and SECRET_VARIABLE.fullmatch(name)
    }
    with _lock:
        named |= _known
    return sorted(named, key=len, reverse=True)


def _plain_address(address: str) -> str:
    """Return an address without passwords and keys."""
    user_info = _user_info(address)
    if user_info is not None:
        user, password = user_info["user"], user_info["password"]
        # In an HTTP address, a user name without a password is a token; in a database address it is a name.
        is_token = password is None and address.lower().startswith("http")
        shown = HIDDEN if is_token else user if password is None else f"{user}:{HIDDEN}"
        address = f"{address[: user_info.start()]}//{shown}@{address[user_info.end() :]}"

    def parameter(found: re.Match[str]) -> str:
        return f"{found['name']}={HIDDEN}" if is_secret_name(found["name"][1:]) else found[0]

    return PARAMETER.sub(parameter, address)


def _user_info(address: str) -> re.Match[str] | None:
    """Match the user name and password of an address; an `@` in the path does not count."""
    found = USER_INFO.search(address)
    if found is None or (found["password"] and PORT.match(found["password"])):
        return None
    return found


def _remember_of_address(address: str) -> None:
    found = _user_info(address)
    if found is not None:
        remember_secret(found["password"][1:] if found["password"] else None)
    for parameter in PARAMETER.finditer(address):
        if is_secret_name(parameter["name"][1:]):
            remember_secret(parameter["value"])
