"""What settings name is opened; nothing is loaded for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.prompted_chat import GenProtocolChat
from mgem_agent.cli.factories import (
    go_offline,
    open_agent,
    open_generator,
    open_reasoner,
    open_sessions,
    open_store,
    prepare_reasoner,
)
from mgem_agent.errors import CheckpointError, InputError, ReasonerUnavailableError
from mgem_agent.nano.drawing import NanoGenerator
from mgem_agent.resident import running_server
from mgem_agent.resident.generator import ResidentGenerator
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import Settings, load_settings
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        generator="flat",
        generator_options={"size": [40, 30]},
        store=tmp_path / "images",
        sessions=str(tmp_path / "sessions"),
        picture={"width": 48, "seed": 7},
        draw="always",
        max_pictures=1,
    )


def test_an_agent_of_the_settings_draws_as_they_say(settings: Settings, tmp_path: Path) -> None:
    reasoner = ScriptedReasoner(script=["<h>a fox</h> <h>a dog</h>"])
    agent = open_agent(settings, reasoner=reasoner)
    turn = agent.invoke("Draw.", session="tale")
    agent.sessions.close()
    [picture] = turn.pictures
    artifact = agent.store.get(picture.artifact_id)
    assert (artifact.width, artifact.height, artifact.seed) == (48, 30, 7)
    assert turn.outcome == "max_pictures"
    assert Path(picture.path).is_relative_to(tmp_path / "images")
    sessions = open_sessions(settings)
    assert [each.name for each in sessions.list()] == ["tale"]
    sessions.close()


def test_arguments_go_before_settings(settings: Settings) -> None:
    sessions, generator = Sessions.in_memory(), FlatColourGenerator()
    reasoner = ScriptedReasoner(script=["Only words."])
    agent = open_agent(settings, reasoner=reasoner, generator=generator, sessions=sessions, draw="never")
    assert agent.sessions is sessions
    assert agent.invoke("Draw.").pictures == ()
    assert not Path(str(settings.sessions)).exists()


def test_reasoners_and_generators_go_by_name() -> None:
    settings = load_settings(model="http://127.0.0.1:1/v1#tiny", model_options={"temperature": 0.5})
    reasoner = open_reasoner(settings)
    assert isinstance(reasoner, GenProtocolChat)
    assert "temperature=0.5" in repr(reasoner.chat_model)
    with pytest.raises(InputError, match=r"^There is no reasoner 'no such thing'"):
        open_reasoner(load_settings(model="no such thing"))
    with pytest.raises(InputError, match=r"^Generator 'flat' does not take the options 'colour'"):
        open_generator(load_settings(generator="flat", generator_options={"colour": "red"}))
    assert open_generator(load_settings(generator="flat")).name == "flat"


def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store(load_settings()).root == tmp_path / "images"
    open_sessions(load_settings()).close()
    open_sessions(load_settings(sessions="~/elsewhere")).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "sessions"]
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with pytest.raises(InputError, match=r"^The PostgreSQL database of the sessions cannot be used"):
        open_sessions(load_settings(sessions="postgresql://me@127.0.0.1:1/none?connect_timeout=2"))


def test_offline_is_told_to_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    go_offline(load_settings())
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    go_offline(load_settings(offline=True))
    assert (os.environ["HF_HUB_OFFLINE"], os.environ["TRANSFORMERS_OFFLINE"]) == ("1", "1")


def test_the_model_of_nano_is_had_before_a_turn_begins(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MGEM_OFFLINE", "1")
    monkeypatch.delenv("MGEM_NANO_LLM", raising=False)
    with pytest.raises(CheckpointError, match=r"^nano's language model is not in .*, and nothing may be fetched"):
        prepare_reasoner(settings, open_reasoner(settings.model_copy(update={"model": "nano"})))
    prepare_reasoner(settings, ScriptedReasoner(script=[]))
    given = settings.model_copy(update={"model_options": {"language_model": str(tmp_path / "none.gguf")}})
    with pytest.raises(CheckpointError, match=r"^There is no file .*none\.gguf"):
        prepare_reasoner(given, open_reasoner(settings.model_copy(update={"model": "nano"})))


def test_the_models_of_a_running_server_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(running_server, "_is_well", lambda server: True)
    nano = load_settings(model="nano", generator="nano", use_server=True)
    keys = [running_server.model_key(kind, "nano", {}) for kind in ("reasoner", "generator")]
    with running_server.advertised("http://127.0.0.1:9", reasoner=keys[0], generators={keys[1]: "nano"}):
        reasoner, generator = open_reasoner(nano), open_generator(nano)
        alone = open_generator(nano.model_copy(update={"use_server": False}))
        other = open_generator(nano.model_copy(update={"generator_options": {"dtype": "float16"}}))
    assert isinstance(generator, ResidentGenerator) and generator.name == "nano"
    assert isinstance(alone, NanoGenerator) and isinstance(other, NanoGenerator)
    assert isinstance(reasoner, GenProtocolModel)
    with pytest.raises(ReasonerUnavailableError, match="127.0.0.1:9"):
        reasoner.text_engine("nano")
    assert capsys.readouterr().err.count("Using the models of mgem serve at http://127.0.0.1:9.") == 1
