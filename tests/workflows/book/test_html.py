from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.workflows.book import make_book, render_html

EVIL = "<script>alert(1)</script> \"'><img src=x onerror=y> {{ 7 * 7 }} & ]]>"


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_one_page_that_needs_nothing_else(make_story: Any, store: ArtifactStore) -> None:
    text = render_html(make_book(make_story(), store))
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en" and page.all("html")[0]["dir"] == "ltr"
    images = page.all("img")
    assert [image["alt"] for image in images] == [f"A fox on page {n}" for n in (1, 1, 2, 3)]
    assert all((image["src"] or "").startswith("data:image/webp;base64,") for image in images)
    assert all(image["width"] and image["height"] for image in images)
    assert not page.all("script") and not page.all("link")
    assert not re.search(r"https?:|url\(|@import", text)
    assert any((meta.get("content") or "").startswith("default-src 'none'; img-src data:") for meta in page.all("meta"))
    assert "mgem story replay story.json" in page.text and "Drawn by flat (flat-colour)" in page.text


def test_nothing_that_a_model_writes_is_markup(make_story: Any, store: ArtifactStore) -> None:
    scene = {"title": EVIL[:60], "text": EVIL, "alt_text": EVIL, "caption": EVIL, "message": EVIL}
    story = make_story(2, scene=scene, title=EVIL, style=EVIL, reasoner=EVIL)
    clean = Page(render_html(make_book(make_story(2, scene={"text": "One."}), store)))
    page = Page(render_html(make_book(story, store)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]
    assert {name for _, found in page.tags for name in found} == {name for _, found in clean.tags for name in found}
    assert EVIL in page.text and page.all("img")[0]["alt"] == EVIL


def test_a_missing_picture_is_said_in_its_place(make_story: Any, store: ArtifactStore) -> None:
    text = Page(render_html(make_book(make_story(1, state="telling"), store))).text
    assert text.count("This picture is not drawn yet.") == 2
    assert "a fox, part 2" in text and "The brush broke." in text and "This story is not finished yet." in text
    nothing = Page(render_html(make_book(make_story(0, scenes=()), store)))
    assert not nothing.all("img") and "The Fox" in nothing.text


def test_another_language(make_story: Any, store: ArtifactStore) -> None:
    german = Page(render_html(make_book(make_story(language="de"), store)))
    assert german.all("html")[0]["lang"] == "de" and "Über dieses Buch" in german.text
    hebrew = Page(render_html(make_book(make_story(language="he", title="השועל"), store)))
    assert hebrew.all("html")[0]["dir"] == "rtl"
    assert hebrew.all("footer")[0] == {"lang": "en", "dir": "ltr"}


def test_ids_of_pictures_are_folded_away(make_story: Any, store: ArtifactStore) -> None:
    story = make_story()
    text = render_html(make_book(story, store))
    folded = text[text.index("<details>") : text.index("</details>")]
    assert "<summary>Details</summary>" in folded and "<details open" not in text
    for scene in story.scenes:
        assert scene.artifact_id in folded and text.count(scene.artifact_id) == 1
