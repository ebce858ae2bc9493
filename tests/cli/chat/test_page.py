from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.chat.page import render_page


def test_a_dialogue_is_one_page_with_its_pictures(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    fox = store.put_picture(Image.new("RGB", (400, 200), "orange"), origin="test").id
    said = [
        {"who": "human", "text": "Draw <b>it</b>", "pictures": [{"id": fox, "caption": ""}], "failures": []},
        {
            "who": "ai",
            "text": "Here **it** is: <script>alert(1)</script>\n\n```\ncode\n```",
            "pictures": [{"id": fox, "caption": 'a "red" fox'}, {"id": "img-0000", "caption": "a hen"}],
            "failures": [{"caption": "", "message": "out of ink"}],
        },
    ]
    page = render_page("Foxes & hens", [{"said": said}], store)
    assert "<title>Foxes &amp; hens</title>" in page
    assert "Draw &lt;b&gt;it&lt;/b&gt;" in page
    assert "<strong>it</strong>" in page and "<script" not in page
    assert 'alt="a &#34;red&#34; fox"' in page
    assert "img-0000 is no longer stored. a hen" in page
    assert "Not drawn: out of ink" in page
    [first, second] = re.findall(r"data:image/webp;base64,([\w+/=]+)", page)
    assert first == second
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (400, 200)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    text = "Look: ![a fox](https://example.org/pixel.png?me) and ![x][y]\n\n[y]: //example.org/y.png"
    said = [{"who": "ai", "text": text, "pictures": [], "failures": []}]
    page = render_page("Foxes", [{"said": said}], ArtifactStore(tmp_path))
    assert "<img" not in page
    assert "Look: a fox (https://example.org/pixel.png?me) and x (//example.org/y.png)" in page
