"""Templates of the page: each response is HTML with a strict content security policy.

No script and no style is inline, nothing is loaded from another server, and no other page may embed this one. What a
model or a user wrote is escaped; Markdown of a model is rendered without HTML and without pictures from elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from mgem_agent.artifacts.shareable import shareable_name
from mgem_agent.foreign_markdown import foreign_html
from mgem_agent.server.page.gallery import facts_of
from mgem_agent.server.page.session_key import session_key
from mgem_agent.server.page.thumbnails import shown_size

__all__ = ["POLICY", "STATIC", "html_response", "render"]

ROOT = Path(str(resources.files("mgem_agent.server.page")))
STATIC = ROOT / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # data: previews of unfinished pictures; blob: pictures that are about to be sent
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser sends the forms of this page with the origin "null"
}
NUM_DIGITS = 10
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def html_response(text: str, status: int = 200, **headers: str) -> HTMLResponse:
    """Return a page or a part of one.

    Args:
        text: The HTML.
        status: Status of the response.
        **headers: Further headers, with `_` for `-`.
    """
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTMLResponse(text, status, {**HEADERS, **given})


def render(template: str, **variables: Any) -> str:
    """Return a template as text; missing variables are an error."""
    return _environment().get_template(template).render(**variables)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = lambda text: Markup(foreign_html(text))
    environment.filters["ago"] = ago
    environment.filters["session_key"] = session_key
    environment.filters["generator_name"] = shareable_name
    environment.globals |= {"static": _static_address, "shown_size": shown_size, "facts_of": facts_of}
    return environment


@functools.cache
def _static_address(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:NUM_DIGITS]
    return f"/static/{name}?v={digest}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return a time in the past in words.

    Examples:
        >>> ago(datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 15, tzinfo=UTC))
        '3 hours ago'
    """
    now = now or datetime.now(UTC)
    seconds = (now - moment).total_seconds()
    if seconds < MINUTE_S:
        return "just now"
    for unit_s, name in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        count = int(seconds // unit_s)
        if count and not (name == "day" and count > 6):
            return f"{count} {name}{'' if count == 1 else 's'} ago"
        if count:
            break
    return f"{moment.astimezone():%Y-%m-%d}"
