from __future__ import annotations

from typing import Any

import pytest
from markdown_it import MarkdownIt

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.workflows.book import make_book, render_markdown


def test_a_book(make_story: Any, store: ArtifactStore) -> None:
    story = make_story(2, state="telling")
    assert render_markdown(make_book(story, store)).splitlines()[:9] == [
        "# The Fox",
        "",
        f"![A fox on page 1](pictures/{story.scenes[0].artifact_id}.png)",
        "",
        "## 1\\. Part 1",
        "",
        f"![A fox on page 1](pictures/{story.scenes[0].artifact_id}.png)",
        "",
        "The fox walks 1 miles.",
    ]
    assert "> *This picture is not drawn yet.*\n>\n> a fox, part 3\n>\n> The brush broke." in render_markdown(
        make_book(story, store)
    )


@pytest.mark.parametrize(
    "text",
    [
        "# no heading",
        "1. no list",
        "12) no list either",
        "- nor this",
        "+ nor this",
        "===",
        "---",
        "    four spaces",
        "*stars* and _lines_ and `ticks` and ~~strokes~~",
        "[a link](javascript:alert) and ![a picture](x.png)",
        "<script>alert(1)</script> <!-- x --> &amp; &lt;",
        "see https://example.org/a_b and www.example.org",
        "a | b | c",
        "> quoted",
        "back\\slash \\* and \\",
        "```python",
    ],
)
def test_every_sign_means_itself(make_story: Any, store: ArtifactStore, text: str) -> None:
    """Read by a parser, the text is the one that was written, and nothing else came of it."""
    story = make_story(1, scenes=make_story(1, scene={"text": text}).scenes[:1])
    reader = MarkdownIt("gfm-like", {"linkify": False})
    paragraphs = [token for token in reader.parse(render_markdown(make_book(story, store))) if token.type == "inline"]
    found = paragraphs[4].children or []
    assert {token.type for token in found} <= {"text", "text_special", "html_inline"} - {"html_inline"}
    assert "".join(token.content for token in found) == " ".join(text.split())
