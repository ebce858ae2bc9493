"""A picture or a story from somebody else sends nothing anywhere unasked, and never a key."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from mgem_agent.artifacts import PictureRecipe
from mgem_agent.cli.app import app
from mgem_agent.tools import ImageRequest

KEY = "sk-very-secret-0123456789"


class Thief:
    """A server of somebody else's, which notes the key that comes with each request."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        keys = self.keys
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
        body = json.dumps({"data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                keys.append(self.headers.get("Authorization"))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.name = f"openai:m@http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def thief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Thief]:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    server = Thief()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def picture_of(thief: Thief, folder: Path) -> str:
    request = ImageRequest(prompt="a fox", width=16, height=16)
    recipe = PictureRecipe(request=request, generator=thief.name, model="m")
    path = folder / "gift.png"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("mgem", recipe.model_dump_json())  # our own files hold no address
    Image.new("RGB", (16, 16), "red").save(path, pnginfo=chunks)
    return str(path)


def redraw(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, ["images", "redraw", *arguments], **options)


def test_nothing_is_sent_where_nobody_is_asked(thief: Thief, tmp_path: Path) -> None:
    result = redraw(picture_of(thief, tmp_path))
    assert result.exit_code == 1
    assert f"names the generator '{thief.name}'" in result.stderr and "Add --yes" in result.stderr
    assert thief.keys == []


@pytest.mark.parametrize(("answer", "num_sent"), [("n\n", 0), ("\n", 0), ("y\n", 1)])
def test_a_person_is_asked(
    thief: Thief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, num_sent: int
) -> None:
    monkeypatch.setattr("mgem_agent.cli.recorded_generator._is_person", lambda: True)
    result = redraw(picture_of(thief, tmp_path), input=answer)
    assert thief.name in result.stderr
    assert thief.keys == [None] * num_sent
    assert result.exit_code == (0 if num_sent else 1)


def test_the_key_goes_only_to_the_server_that_it_is_for(
    thief: Thief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = picture_of(thief, tmp_path)
    assert redraw(picture, "--yes").exit_code == 0
    assert thief.keys == [None]
    monkeypatch.setenv("OPENAI_BASE_URL", thief.name.partition("@")[2])
    assert redraw(picture, "--yes").exit_code == 0
    assert thief.keys == [None, f"Bearer {KEY}"]


def test_the_configured_generator_needs_no_question(
    thief: Thief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGEM_GENERATOR", thief.name)
    monkeypatch.setenv("MGEM_GENERATOR_OPTIONS__API_KEY", "my-own-key-for-it")
    assert redraw(picture_of(thief, tmp_path)).exit_code == 0
    assert thief.keys == ["Bearer my-own-key-for-it"]


def test_another_generator_can_be_named(thief: Thief, tmp_path: Path) -> None:
    assert redraw(picture_of(thief, tmp_path), "--generator", "flat").exit_code == 0
    assert thief.keys == []


def test_a_story_from_somebody_else(thief: Thief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {"title": "T", "cast": [{"name": "M", "looks": "grey"}], "width": 16, "height": 16}
    recipe["scenes"] = [{"title": "H", "text": "T.", "caption": "a mouse"}]
    Path("r.json").write_text(json.dumps(recipe))
    told = CliRunner().invoke(app, ["story", "r.json", "--out", "b", "--formats", "md"], env={"MGEM_GENERATOR": "flat"})
    assert told.exit_code == 0, told.output
    record = Path("b/story.json")
    record.write_text(record.read_text().replace('"flat"', json.dumps(thief.name)))
    monkeypatch.setenv("MGEM_GENERATOR_OPTIONS__API_KEY", "my-own-key-for-another")
    result = CliRunner().invoke(app, ["story", "replay", "b"])
    assert (result.exit_code, thief.keys) == (1, [])
    assert "Add --yes" in result.stderr
    CliRunner().invoke(app, ["story", "replay", "b", "--yes"])
    assert thief.keys == [None]


def test_a_picture_of_the_configured_server_is_drawn_there_though_it_holds_no_address(
    thief: Thief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mgem_agent.artifacts import encode_picture

    recipe = PictureRecipe(request=ImageRequest(prompt="a fox", width=16, height=16), generator=thief.name, model="m")
    path = tmp_path / "own.png"
    path.write_bytes(encode_picture(Image.new("RGB", (16, 16), "red"), recipe))
    assert b"127.0.0.1" not in path.read_bytes()
    monkeypatch.setenv("MGEM_GENERATOR", thief.name)
    assert redraw(str(path)).exit_code == 0
    assert thief.keys == [None]
