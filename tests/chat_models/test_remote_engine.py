"""An engine in another process can do what it can there, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.chat_models.remote_engine import EngineAbilities, make_remote_engine, with_pictures, without_files
from mgem_agent.chat_models.text_engine import ChoosingEngine, PromptSize, SizingEngine, TextEnd, TextRequest
from mgem_agent.errors import ImageError


class Transport:
    """Says two words, and no end."""

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        yield "two"
        yield " words"

    def prompt_size(self, request: TextRequest) -> PromptSize:
        return PromptSize(1, 2, 3, 4)

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        return [0.5 for _ in choices]


@pytest.mark.parametrize(
    "abilities",
    [
        EngineAbilities(follows_grammar=True, sizes=True, chooses=True),
        EngineAbilities(follows_grammar=False, sizes=True, chooses=False),
        EngineAbilities(follows_grammar=True, sizes=False, chooses=False),
    ],
)
def test_the_abilities_are_those_of_the_engine_there(abilities: EngineAbilities) -> None:
    assert EngineAbilities.of(make_remote_engine(Transport(), abilities)) == abilities


def test_the_answers_are_those_of_the_transport() -> None:
    engine = make_remote_engine(Transport(), EngineAbilities(True, True, True))
    request = TextRequest([{"role": "user", "content": "Hi."}])
    assert [*engine.stream(request)] == ["two", " words"]
    assert isinstance(engine, SizingEngine) and engine.prompt_size(request) == PromptSize(1, 2, 3, 4)
    assert isinstance(engine, ChoosingEngine) and engine.choice_probabilities(request, ["yes", "no"]) == [0.5, 0.5]
    request.cancel.set()
    assert [*engine.stream(request)] == ["two", " words", TextEnd(finish_reason="cancelled")]


def test_only_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    picture = Image.new("RGB", (1, 1))
    url = "data:image/png;base64,AAAA"
    found = [without_files(each) for each in (tmp_path / "a.png", str(tmp_path / "a.png"), b"x", url, picture)]
    assert found == [b"png", b"png", b"x", url, picture]
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        without_files(tmp_path / "none.png")


def test_pictures_are_changed_and_text_is_not() -> None:
    content = [{"type": "image", "image": 1}, {"type": "text", "text": "What?"}]
    dialogue = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content, "draw": True}]
    changed = [{"type": "image", "image": 2}, {"type": "text", "text": "What?"}]
    assert with_pictures(dialogue, lambda picture: picture + 1) == [
        dialogue[0],
        {"role": "user", "content": changed, "draw": True},
    ]
    assert content[0]["image"] == 1
