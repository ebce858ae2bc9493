"""Pictures and turns show themselves in a notebook."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import Image

from mgem_agent.agent import DrawnPicture, FailedDrawing, Turn


def drawn(folder: Path, prompt: str = "a <red> fox") -> DrawnPicture:
    path = folder / "fox.png"
    Image.new("RGB", (4, 3), (200, 30, 20)).save(path)
    return DrawnPicture("call_1", "img-1", str(path), prompt)


def test_a_picture_can_be_opened_and_shown(tmp_path: Path) -> None:
    picture = drawn(tmp_path)
    assert (picture.image.size, picture.image.getpixel((0, 0))) == ((4, 3), (200, 30, 20))
    assert picture._repr_png_() == Path(picture.path).read_bytes()  # pyright: ignore[reportPrivateUsage]


def test_a_turn_shows_text_pictures_and_failures_as_html(tmp_path: Path) -> None:
    picture = drawn(tmp_path)
    failure = FailedDrawing("call_2", "a cat", "The server is down & out.")
    html = Turn("s", "t", "Here <it> is.", (picture,), (failure,))._repr_html_()  # pyright: ignore[reportPrivateUsage]
    data = base64.b64encode(Path(picture.path).read_bytes()).decode()
    assert html == (
        "<p>Here &lt;it&gt; is.</p>\n"
        f'<img src="data:image/png;base64,{data}" alt="a &lt;red&gt; fox" title="a &lt;red&gt; fox">\n'
        "<p>Not drawn: The server is down &amp; out.</p>"
    )
