"""Settings come from flags, the environment and the user's file, in this order, and each mistake names its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mgem_agent.errors import InputError
from mgem_agent.settings import (
    Settings,
    explain_settings,
    hidden,
    known_setting,
    load_settings,
    setting_names,
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the user's file."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("MGEM_CONFIG", str(path))

    def written(text: str) -> Path:
        path.write_text(text)
        return path

    return written


def test_without_anything_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MGEM_USE_SERVER")
    settings = load_settings()
    assert (settings.model, settings.generator, settings.draw, settings.max_pictures) == ("nano", "nano", "auto", 8)
    assert settings.draw_defaults == {}
    assert {each.source for each in explain_settings()} == {"default"}


def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('model = "file"\ngenerator = "file"\nlook = 1\n[picture]\nwidth = 64\nheight = 64\nsteps = 3')
    monkeypatch.setenv("MGEM_MODEL", "environment")
    monkeypatch.setenv("MGEM_GENERATOR", "environment")
    monkeypatch.setenv("MGEM_PICTURE__WIDTH", "128")
    monkeypatch.setenv("MGEM_PICTURE__HEIGHT", "128")
    settings = load_settings(model="flag", generator=None, picture={"width": 256, "height": None}, draw=None)
    assert (settings.model, settings.generator, settings.look, settings.draw) == ("flag", "environment", 1, "auto")
    assert settings.draw_defaults == {"width": 256, "height": 128, "num_inference_steps": 3}
    assert load_settings(picture={"seed": None}) == load_settings()


def test_options_are_free_and_of_the_type_that_the_environment_writes(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('[model_options]\ntemperature = 0.5\nstop = "3"')
    monkeypatch.setenv("MGEM_MODEL_OPTIONS__TOP_P", "0.9")
    monkeypatch.setenv("MGEM_MODEL_OPTIONS__DTYPE", "float32")
    options = load_settings(model_options={"temperature": 0.1}).model_options
    assert options == {"temperature": 0.1, "stop": "3", "top_p": 0.9, "dtype": "float32"}


def test_each_value_has_its_source(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("look = 1\n[picture]\nwidth = 64\n[model_options]\ntemperature = 0.5")
    monkeypatch.setenv("MGEM_LOOK", "2")
    monkeypatch.setenv("MGEM_PICTURE__SEED", "7")
    found = {each.name: (each.value, each.source) for each in explain_settings()}
    assert found["look"] == (2, "MGEM_LOOK")
    assert found["picture.seed"] == (7, "MGEM_PICTURE__SEED")
    assert found["picture.width"] == (64, str(path))
    assert found["model_options.temperature"] == (0.5, str(path))
    assert found["generator_options"] == ({}, "default")
    assert list(found)[:2] == ["model", "generator"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "loook = 1",
            r"^There is no setting 'loook', found in .*config\.toml\. Did you mean 'look'\? Known: model",
        ),
        (
            "[picture]\nhight = 1",
            r"^There is no setting 'picture\.hight', found in .*Did you mean 'picture\.hei",
        ),
        ('draw = "sometimes"', r"^draw = 'sometimes', from .*config\.toml, is not valid: Input should be 'auto', 'alw"),
        (
            "[picture]\nwidth = 7",
            r"^picture\.width = 7, from .*is not valid: Input should be greater than or equal to 16\.",
        ),
        ("look = -1\nconfirm = 3", r"(?s)^look = -1, from .*\nconfirm = 3, from .* Run: mgem config show$"),
        ("look = ", r"^The config file '.*config\.toml' cannot be read: .*Fix the file or remove it\.$"),
        ('store = "pictures"', r"^store = 'pictures' in .* is a relative path\. Write an absolute path"),
    ],
)
def test_a_mistake_in_the_file(write: Write, text: str, message: str) -> None:
    write(text)
    with pytest.raises(InputError, match=message):
        load_settings()


def test_a_mistake_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"^look = 'many', from the command line, is not valid: look is 'many'\. Give a maximum number"
    ):
        load_settings(look="many")
    with pytest.raises(InputError, match=r"^There is no setting 'colour', found in the command line\."):
        load_settings(colour="red")
    monkeypatch.setenv("MGEM_TIMEOUT_S", "0")
    with pytest.raises(
        InputError, match=r"^timeout_s = '0', from MGEM_TIMEOUT_S, is not valid: Input should be greater"
    ):
        load_settings()
    monkeypatch.delenv("MGEM_TIMEOUT_S")
    monkeypatch.setenv("MGEM_PICTURE", "{wide}")
    with pytest.raises(InputError, match=r"^An environment variable cannot be read: .*Write its value as JSON\.$"):
        load_settings()


def test_nothing_is_read_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mgem.toml", "config.toml", ".env"):
        (tmp_path / name).write_text('model = "stranger"\nMGEM_MODEL="stranger"')
    monkeypatch.chdir(tmp_path)
    assert load_settings().model == "nano"


def test_they_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().model = "another"  # type: ignore[misc]


def test_places_begin_at_home(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write('store = "~/pictures"\nsessions = "postgresql://me@db/tales"')
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_settings().store == Path("/home/somebody/pictures")


def test_pictures_may_be_at_an_address(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write('store = "s3://bucket/pictures"')
    assert load_settings().store == "s3://bucket/pictures"
    monkeypatch.setenv("MGEM_STORE", "gs://bucket/others")
    assert load_settings().store == "gs://bucket/others"
    assert load_settings(store=Path("here")).store == Path("here")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("model_options.api_key", "sk-1", "(hidden)"),
        ("model_options", {"api_key": "sk-1", "top_p": 1}, {"api_key": "(hidden)", "top_p": 1}),
        ("sessions", "postgresql://me:pw@db:5432/tales", "postgresql://me:(hidden)@db:5432/tales"),
        ("sessions", "postgresql://me@db/tales", "postgresql://me@db/tales"),
        ("model", "http://127.0.0.1:8000/v1#qwen", "http://127.0.0.1:8000/v1#qwen"),
        ("model_options.api_key", None, None),
    ],
)
def test_secrets_are_hidden(name: str, value: Any, shown: Any) -> None:
    assert hidden(name, value) == shown


def test_a_secret_stays_out_of_what_is_wrong_with_it(write: Write) -> None:
    write("[model_options]\napi_key = 1\n[generator_options]\ndtype = 1")
    assert "1" not in [each.value for each in explain_settings() if each.name == "model_options.api_key"]


def test_names() -> None:
    assert "picture.guidance_scale" in setting_names()
    assert known_setting("model_options.num_ctx") == "model_options.num_ctx"
    assert set(Settings.model_fields) == {name.partition(".")[0] for name in setting_names()}
    with pytest.raises(InputError, match=r"^There is no setting 'modle'\. Did you mean 'model'\? Known: model, gen"):
        known_setting("modle")


def test_options_belong_to_the_generator_that_they_were_set_for(write: Write) -> None:
    write(
        'generator = "openai:one"\n[generator_options]\ntimeout_s = 9\nscheduler_options = {shift = 3}\n'
        '[generator_options.openai]\nquality = "low"\n[generator_options."openai:two"]\nquality = "high"\n'
    )
    flat = {"timeout_s": 9, "scheduler_options": {"shift": 3}}
    assert load_settings().options_of("openai:one") == {**flat, "quality": "low"}
    assert load_settings().options_of("openai:two") == {"quality": "high"}
    assert load_settings().options_of("flat") == {}
    other = load_settings(generator="openai:two")
    assert (other.options_of("openai:two"), other.options_of("openai:one")) == ({"quality": "high"}, {"quality": "low"})
    assert load_settings(generator="openai:one").options_of("openai:one") == {**flat, "quality": "low"}
    assert load_settings(generator="flat", generator_options={"size": 9}).options_of("flat")["size"] == 9


def test_budgets_and_prices_are_settings(write: Any) -> None:
    write('[budget]\nturn = "5 pictures, 1min"\n[prices."openai:gpt-5"]\ninput_tokens = 1.25')
    settings = load_settings(budget={"session": "1usd"}, look="best-of-4")
    assert (str(settings.budgets.turn), str(settings.budgets.session)) == ("5pictures,60s", "1usd")
    assert settings.prices["openai:gpt-5"].input_tokens == 1.25
    assert settings.look == "best-of-4"
    with pytest.raises(InputError, match=r"^budget\.turn = 'much', from the command line, is not valid: 'much' in the"):
        load_settings(budget={"turn": "much"})
