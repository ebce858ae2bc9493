"""Export a dialogue as one HTML page with embedded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import MgemError
from mgem_agent.foreign_markdown import foreign_html

if TYPE_CHECKING:
    from mgem_agent.artifacts import ArtifactStore

__all__ = ["render_page"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 46rem; font: 1.05rem/1.6 Georgia, serif; }
h1 { font-size: 1.6rem; line-height: 1.25; }
.human { margin: 2.5rem 0 1rem; padding: .6rem 1rem; border-left: .25rem solid #c60; background: #8881; }
.human p { white-space: pre-wrap; margin: 0; }
figure { margin: 1.2rem 0; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; border-radius: .3rem; }
figcaption, .note { font-size: .9rem; opacity: .75; }
pre { padding: .8rem; overflow-x: auto; background: #8882; border-radius: .3rem; font-size: .9rem; line-height: 1.4; }
table { border-collapse: collapse; } th, td { padding: .2rem .7rem; border-bottom: 1px solid #8886; text-align: left; }
@media print { body { max-width: none; font-size: 11pt; } pre { white-space: pre-wrap; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for said in speeches %}
<section class="{{ said.who }}">
{% if said.who == "human" %}{% if said.text %}<p dir="auto">{{ said.text }}</p>{% endif %}
{% else %}<div dir="auto">{{ said.html | safe }}</div>{% endif %}
{% for picture in said.pictures %}
{% if picture.shown %}
<figure><img src="{{ picture.shown.uri }}" width="{{ picture.shown.width }}" height="{{ picture.shown.height }}"
 alt="{{ picture.caption or 'A picture that was shown' }}">
{% if picture.caption %}<figcaption dir="auto">{{ picture.caption }}</figcaption>{% endif %}</figure>
{% else %}<p class="note">{{ picture.id }} is no longer stored. {{ picture.caption }}</p>{% endif %}
{% endfor %}
{% for failure in said.failures %}<p class="note">Not drawn: {{ failure.caption or failure.message }}</p>
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


def render_page(title: str, turns: Sequence[dict[str, Any]], store: ArtifactStore) -> str:
    """Return a dialogue as HTML. Messages are rendered as Markdown, HTML in them is escaped, and nothing is loaded.

    Args:
        title: Heading of the page.
        turns: Turns from `read_transcript`.
        store: The picture store.
    """
    import jinja2

    speeches = [
        {
            **said,
            "html": foreign_html(said["text"]),
            "pictures": [{**each, "shown": _shown(each, store)} for each in said["pictures"]],
        }
        for turn in turns
        for said in turn["said"]
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(PAGE).render(title=title, speeches=speeches)


def _shown(picture: dict[str, Any], store: ArtifactStore) -> Any:
    """Return a picture for the page; None if it is no longer stored."""
    from mgem_agent.workflows.book.book import BookPicture
    from mgem_agent.workflows.book.picture_data import page_picture

    try:
        artifact = store.get(picture["id"])
        given = BookPicture(artifact.id, store.path(artifact.id), artifact.width, artifact.height, picture["caption"])
        return page_picture(given)
    except MgemError:
        return None
