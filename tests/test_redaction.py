"""No password and no key is shown, logged or stored."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent import redaction
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.redaction import (
    is_secret_name,
    redact,
    redacted_start,
    remember_secret,
    remember_secrets,
    without_secrets,
)
from mgem_agent.sessions import Sessions
from mgem_agent.settings import hidden, load_settings
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw, make_generator
from mgem_agent.tools.capabilities import Notice

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", set())
    yield


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("postgresql://me:pass@host/db", "postgresql://me:(hidden)@host/db"),
        ("postgresql://me:p/a@s:s@host:5/db failed", "postgresql://me:(hidden)@host:5/db failed"),
        ("'http://host/v1?api_key=abc&size=2'.", "'http://host/v1?api_key=(hidden)&size=2'."),
        ("(https://h/?X-Amz-Signature=a1%2F&sig=b)", "(https://h/?X-Amz-Signature=(hidden)&sig=(hidden))"),
        ("https://ghp_0123@host/x", "https://(hidden)@host/x"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("http://host:8000/a@b?monkey=1", "http://host:8000/a@b?monkey=1"),
        ("openai:m@http://host:8080/v1", "openai:m@http://host:8080/v1"),
        ('{"Authorization": "Bearer abc"}', '{"Authorization": "Bearer (hidden)"}'),
        ("X-Api-Key: abc, Accept: */*", "X-Api-Key: (hidden), Accept: */*"),
        ("the bearer of news paid the key 5 // 2", "the bearer of news paid the key 5 // 2"),
    ],
)
def test_what_is_recognized_is_hidden(text: str, plain: str) -> None:
    assert redact(text) == plain
    assert redact(plain) == plain
    assert str(InputError(text)) == plain


def test_a_known_secret_is_hidden_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"the server got {KEY} and a%2Fsecret%21word"
    assert without_secrets(text) == text
    remember_secret("a/secret!word")
    monkeypatch.setenv("SOME_API_KEY", KEY)
    assert without_secrets(text) == "the server got (hidden) and (hidden)"


def test_a_short_word_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    remember_secret("EMPTY")
    assert without_secrets("none is EMPTY") == "none is EMPTY"


def test_secrets_are_remembered_from_options_and_addresses() -> None:
    remember_secrets(
        {"a": {"api_key": KEY}, "max_tokens": 12345678, "url": "http://me:long%2Fpassword@h/?token=tok-12345"}
    )
    assert without_secrets(f"{KEY} 12345678 long/password tok-12345") == "(hidden) 12345678 (hidden) (hidden)"


def test_names_of_secrets() -> None:
    secret = ("api_key", "apikey", "Ocp-Apim-Subscription-Key", "access_token", "password", "X-Goog-Signature")
    others = ("monkey", "max_tokens", "tokenizer", "keys", "author", "design")
    assert [name for name in (*secret, *others) if is_secret_name(name)] == list(secret)


def test_an_error_survives_pickling_and_keeps_its_fields() -> None:
    error = pickle.loads(pickle.dumps(InputError("http://a:b@c/")))
    assert str(error) == "http://a:(hidden)@c/"
    assert MissingDependencyError("It", "pkg").package == "pkg"


def test_settings_are_hidden_and_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MGEM_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("MGEM_MODEL_OPTIONS__API_KEY", KEY)
    monkeypatch.setenv("MGEM_SESSIONS", "postgresql://me:longpassword@host/db")
    settings = load_settings()
    assert hidden("model_options", settings.model_options) == {"api_key": "(hidden)"}
    assert hidden("sessions", settings.sessions) == "postgresql://me:(hidden)@host/db"
    assert without_secrets(f"{KEY} longpassword") == "(hidden) (hidden)"


def test_a_bad_address_of_sessions_hides_its_password() -> None:
    with pytest.raises(InputError) as caught:
        Sessions.postgres("postgresql://me:hunter2@127.0.0.1:1/db?connect_timeout=1")
    assert "hunter2" not in str(caught.value)


def test_nothing_stored_of_a_picture_holds_a_key(tmp_path: Path) -> None:
    """A hostile server echoes the key, and the generator's address has one."""
    remember_secret(KEY)
    store = ArtifactStore(tmp_path)
    [result] = [
        event for event in draw(FlatColourGenerator(size=(16, 16)), [ImageRequest(prompt=f"a fox {KEY}")])
        if isinstance(event, ImageResult)
    ]  # fmt: skip
    named = {"generator": "openai:m@http://h/v1?api_key=abc", "notices": (Notice(argument="prompt", message=KEY),)}
    artifact = store.put(ImageResult(**{name: getattr(result, name) for name in result.__slots__} | named))
    given = store.put_picture(Image.new("RGB", (9, 9)), origin="https://h/p.png?token=abc")
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*"))
    assert KEY.encode() not in files and b"=abc" not in files
    assert artifact.recipe is not None
    assert artifact.recipe.generator == "openai:m@http://h/v1?api_key=(hidden)"
    assert given.origin == "https://h/p.png?token=(hidden)"


def test_a_record_of_a_session_holds_no_key_and_no_half_character() -> None:
    remember_secret(KEY)
    sessions = Sessions.in_memory()
    sessions.begin("s", {"turn": "1", "said": [f"{KEY} \ud83e", "\ud83e\udd8a"]}, title="t")
    assert sessions.open_turn("s") == {"turn": "1", "said": ["(hidden) \ufffd", "🦊"]}


def test_a_generators_key_is_remembered() -> None:
    make_generator("openai:m@http://127.0.0.1:9/v1", api_key=KEY)
    assert without_secrets(KEY) == "(hidden)"


def test_no_half_of_a_key_is_left_where_text_is_cut() -> None:
    remember_secret(KEY)
    assert redacted_start(f"You sent {KEY} to us", 14) == "You sent (hidd"
    assert redacted_start({"a": "x" * 10_000}, 8) == "{'a': 'x"
