"""Requests, events and errors survive the way through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import ContextOverflowError, GeneratorUnavailableError, ImageError, InputError, MgemError
from mgem_agent.resident import wire
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.image_usage import ImageUsage


def sent(data: Any) -> Any:
    return json.loads(json.dumps(data))


def request_with(image: Any) -> TextRequest:
    content = [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]
    dialogue = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content, "draw": True}]
    options = {"no_repeat_ngram_size": 3, "bad_words_ids": [[1, 2]]}
    return TextRequest(dialogue, "It is", 7, 0.5, 0.9, 3, options, thread_id="one", grammar="start: /a/")


def test_a_request_keeps_every_field() -> None:
    request = request_with("data:image/png;base64,AAAA")
    data = sent(wire.encode_text_request(request))
    assert wire.decode_text_request(data, cancel=request.cancel) == request


def test_a_picture_keeps_its_pixels(tmp_path: Path) -> None:
    picture = Image.radial_gradient("L").resize((20, 14)).convert("RGB")
    file = tmp_path / "picture.jpg"
    picture.save(file)
    for source in (picture, file, str(file), file.read_bytes()):
        data = sent(wire.encode_text_request(request_with(source)))
        found: Any = wire.decode_text_request(data).dialogue[1]["content"]
        assert load_image(found[0]["image"]).tobytes() == load_image(source).tobytes()


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no-file.png' cannot be read: No such file"):
        wire.encode_text_request(request_with(tmp_path / "no-file.png"))


def test_an_option_that_is_a_function_is_refused() -> None:
    with pytest.raises(InputError, match="'logits_processor' are not plain data.*MGEM_USE_SERVER=false"):
        wire.encode_text_request(TextRequest([], options={"logits_processor": [len]}))


@pytest.mark.parametrize("data", [{}, {"dialogue": 3}, {"dialogue": [{}]}])
def test_a_request_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(InputError, match="not one of this release"):
        wire.decode_text_request(data)


@pytest.mark.parametrize("event", ["a piece", "", TextEnd(3, 4, 5, 6, "length", "no")])
def test_a_piece_and_the_end_of_an_answer(event: str | TextEnd) -> None:
    assert wire.decode_text_event(sent(wire.encode_text_event(event))) == event


def test_progress_keeps_its_preview() -> None:
    event = GenerationProgress(1, 2, 3, Image.new("RGB", (4, 4), "red"))
    found = wire.decode_drawing_event(sent(wire.encode_drawing_event(event)), [])
    assert found == event
    assert isinstance(found, GenerationProgress) and found.preview is not None
    assert found.preview.tobytes() == Image.new("RGB", (4, 4), "red").tobytes()
    plain = GenerationProgress(0, 1, 0)
    assert wire.decode_drawing_event(sent(wire.encode_drawing_event(plain)), []) == plain


def test_a_result_keeps_every_field() -> None:
    requests = [ImageRequest(prompt="a"), ImageRequest(prompt="b", seed=3)]
    image = Image.effect_noise((8, 6), 40).convert("RGB")
    notices = (Notice(argument="width", message="changed"),)
    result = ImageResult(
        1, requests[1], requests[1], "nano", "nano", image, notices=notices, seconds=0.5, versions={"torch": "2"},
        usage=ImageUsage(1, 2, 3),
    )  # fmt: skip
    found = wire.decode_drawing_event(sent(wire.encode_drawing_event(result)), requests)
    assert isinstance(found, ImageResult) and found.image is not None
    assert found.image.tobytes() == image.tobytes()
    names = [name for name in ImageResult.__slots__ if name != "image"]
    assert [getattr(found, name) for name in names] == [getattr(result, name) for name in names]


def test_a_failed_result_keeps_its_error() -> None:
    asked = ImageRequest(prompt="a")
    result = ImageResult(0, asked, asked, "nano", "nano", error=GeneratorUnavailableError("no", retryable=True))
    found = wire.decode_drawing_event(sent(wire.encode_drawing_event(result)), [asked])
    assert isinstance(found, ImageResult) and isinstance(found.error, GeneratorUnavailableError)
    assert (str(found.error), found.error.retryable) == ("no", True)


def test_an_error_keeps_its_class_and_fields() -> None:
    error = ContextOverflowError(num_text_tokens=9, num_images=1, max_context=8)
    found = wire.decode_error(sent(wire.encode_error(error)))
    assert (type(found), str(found), vars(found)) == (ContextOverflowError, str(error), vars(error))


def test_an_error_of_the_server_alone_is_one_of_ours() -> None:
    class QueueFullError(MgemError):
        """An error that only a server has."""

    assert type(wire.decode_error(wire.encode_error(QueueFullError("full")))) is MgemError


def test_a_picture_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="not a PNG file"):
        wire.decode_pictures({"a": "bm8="})
