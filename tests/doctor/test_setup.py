"""The settings, looked at without making, fetching or loading anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.doctor.finding import Finding
from mgem_agent.doctor.setup import (
    check_cache,
    check_generator,
    check_hub,
    check_model,
    check_nano,
    check_nano_files,
    check_sessions,
    check_settings_file,
    check_store,
    setup_checks,
)
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.nano.drawing import NanoGenerator
from mgem_agent.nano.seals import seal_folder
from mgem_agent.settings import load_settings
from mgem_agent.tools import Capabilities

DEAD = "http://127.0.0.1:9"


class Answer(BaseHTTPRequestHandler):
    """Wants a key of everybody, and is broken below /broken."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path.startswith("/broken") else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_every_topic_is_looked_at() -> None:
    topics = [topic for topic, _ in setup_checks(load_settings())]
    assert topics == [
        "settings",
        "pictures",
        "sessions",
        "cache",
        "hub",
        "nano",
        "nano files",
        "model",
        "generator",
        "sharing",
    ]


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    [good] = check_store(load_settings(store=tmp_path / "new" / "images"))
    assert good.status in ("ok", "note")
    assert good.text.startswith(f"{tmp_path / 'new' / 'images'}, ") and good.text.endswith(" GiB free")
    assert not (tmp_path / "new").exists()
    [bad] = check_store(load_settings(store=tmp_path / "file" / "images"))
    text = f"{tmp_path / 'file' / 'images'} is not writable"
    assert bad == Finding("pictures", "problem", text, "mgem config set store FOLDER")
    [bad] = check_sessions(load_settings(sessions=str(tmp_path / "file")))
    assert (bad.topic, bad.status) == ("sessions", "problem")
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "file"))
    assert [(each.topic, each.status) for each in check_cache()][0] == ("cache", "problem")


def test_pictures_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    address = f"memory://{tmp_path.name}/pictures"
    assert check_store(load_settings(store=address)) == [Finding("pictures", "ok", address)]
    artifact = ArtifactStore(address).put_picture(Image.new("RGB", (8, 8)), origin="x")
    fsspec.filesystem("memory").pipe_file(f"{address}/{artifact.id[4:6]}/{artifact.id}.png", b"half")
    _, damaged = check_store(load_settings(store=address))
    assert damaged.text.startswith(f"{artifact.id}.png cannot be read and is skipped: ")
    assert damaged.fix == f"delete {address}/{artifact.id[4:6]}/{artifact.id}.png"
    [bad] = check_store(load_settings(store="nowhere://a"))
    assert (bad.status, bad.text) == (
        "problem",
        "The address 'nowhere://a' cannot be used: Protocol not known: nowhere",
    )
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    [bad] = check_store(load_settings(store="gs://a"))
    assert (bad.text, bad.fix) == ("The address 'gs://a' needs the package 'gcsfs'.", "pip install 'mgem-agent[gs]'")


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    for number in range(23):
        (tmp_path / "ab" / f"img-ab{number:010d}.png").write_bytes(b"half")
    found = check_store(load_settings(store=tmp_path))
    assert len(found) == 22
    path = tmp_path / "ab" / f"img-ab{0:010d}.png"
    assert [each.fix for each in found if each.text.startswith(f"{path.name} cannot be read")] == [f"rm {path}"]
    assert found[-1].text == "3 more files cannot be read"


def test_a_place_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert check_store(load_settings(store=tmp_path))[0].status == "problem"


def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    [found] = check_sessions(load_settings(sessions="postgresql://me:secret@127.0.0.1:1/tales"))
    assert found.status == "problem"
    assert found.text.startswith("the PostgreSQL database cannot be used: ")
    assert "secret" not in found.text


def test_the_extra_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    [found] = check_sessions(load_settings(sessions="postgresql://me:secret@db/tales"))
    assert (found.status, found.fix) == ("problem", "pip install 'mgem-agent[postgres]'")
    assert found.text == "postgresql://me:(hidden)@db/tales needs the extra postgres"


@pytest.mark.usefixtures("online")
def test_the_hub(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert check_hub(load_settings()) == [Finding("hub", "ok", f"{url} answers")]
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    [found] = check_hub(load_settings())
    assert found.status == "note" and found.text.startswith(f"{DEAD} cannot be reached (")
    [found] = check_hub(load_settings(offline=True))
    assert found.text == "not checked, because offline mode is on"


def test_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    monkeypatch.delenv("MGEM_NANO_LLM", raising=False)
    found = check_nano(load_settings(model="nano", offline=True))
    text = "the language model (93 MB) is not downloaded yet, and offline mode is on"
    assert found[0] == Finding("nano", "problem", text, 'mgem ask "Hello" --model nano')
    assert check_nano(load_settings(model="other"))[0].status == "note"
    assert not any(each.status == "problem" for each in found[1:])
    monkeypatch.setenv("MGEM_NANO_LLM", "/somewhere")
    assert check_nano(load_settings())[0] == Finding("nano", "ok", "language model in /somewhere")


def test_nano_files_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    assert [found.status for found in check_nano_files()] == ["ok"]
    folder = tmp_path / "nano" / "a model"
    folder.mkdir(parents=True)
    file = folder / "weights"
    file.write_bytes(b"1234")
    seal_folder(folder)
    time = file.stat().st_mtime_ns
    file.write_bytes(b"1235")
    os.utime(file, ns=(time, time))  # a broken disk changes neither size nor time
    [found] = check_nano_files()
    assert (found.status, found.fix) == ("problem", f"rm -r '{folder}'")
    assert found.text == f"{file} is damaged: it has changed since it was made. nano makes a deleted folder anew."


def test_the_model(url: str, tmp_path: Path) -> None:
    def look(name: str, **options: object) -> Finding:
        [found] = check_model(load_settings(model=name, model_options=options))
        return found

    assert look(f"{url}/v1#tiny") == Finding("model", "ok", f"{url}/v1#tiny answers")
    assert look(f"{DEAD}/v1#tiny").text.endswith(" Start its server.")
    assert look(f"{url}/broken#tiny").text == f"{url}/broken#tiny does not answer (status 503). Start its server."
    assert look("no such thing").text.startswith("There is no reasoner 'no such thing'")
    assert look("nano").status == "ok"
    missing = look("Nobody/No-Such-Model")
    assert (missing.status, missing.fix) == ("problem", "hf download Nobody/No-Such-Model")
    assert look(str(tmp_path)).fix == f"mgem models check {tmp_path}"


@pytest.mark.usefixtures("online")
def test_a_model_that_can_still_be_fetched() -> None:
    [found] = check_model(load_settings(model="Nobody/No-Such-Model"))
    assert (found.status, found.text) == ("note", "Nobody/No-Such-Model is not on this machine yet")


def test_the_generator(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(name: str, **options: object) -> Finding:
        [found] = check_generator(load_settings(generator=name, generator_options=options))
        return found

    assert look("flat") == Finding("generator", "ok", "flat, a FlatColourGenerator")

    def without_weights(self: NanoGenerator) -> Capabilities:
        raise GeneratorUnavailableError("no weights")

    monkeypatch.setattr(NanoGenerator, "capabilities", property(without_weights))
    assert look("nano") == Finding("generator", "problem", "no weights", "mgem generators")
    assert look("flatt").text.startswith("There is no generator 'flatt'. Did you mean 'flat'?")
    assert look("flat", colour="red").status == "problem"
    assert look(f"a1111:{url}").status == "ok"
    assert look(f"a1111:{DEAD}").status == "problem"


def test_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "config.toml"))
    assert check_settings_file()[0].text == f"no config file; its path would be {tmp_path / 'config.toml'}"
    (tmp_path / "config.toml").write_text("")
    assert check_settings_file()[0].text == str(tmp_path / "config.toml")
