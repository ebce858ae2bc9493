"""The server on nano, with the openai SDK as the client. Slow: it loads nano."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import openai
import pytest

from mgem_agent.cli.server_parts import open_service as open_configured_service
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.settings import load_settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers' own
]


def decoded(text: str | None) -> Any:
    assert text is not None
    return load_image(base64.b64decode(text))


def test_nano_draws_edits_and_sees_for_the_openai_sdk(tmp_path: Path, running: Any) -> None:
    settings = load_settings(
        model="nano", generator="nano", store=tmp_path / "images", sessions=str(tmp_path / "sessions")
    )
    with (
        running(open_configured_service(settings)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0, timeout=600) as client,
    ):
        assert [model.id for model in client.models.list()] == ["mgem", "nano", "image:nano"]
        image = client.images.generate(prompt="a red apple on the grass", model="image:nano")
        assert image.data is not None
        [item] = image.data
        assert decoded(item.b64_json).size == (128, 128)
        assert item.revised_prompt == "a red apple in a meadow"
        parts: Any = [
            {"type": "input_text", "text": "What is in the picture?"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{item.b64_json}"},
        ]
        seen = client.responses.create(model="mgem", input=[{"role": "user", "content": parts}])
        assert "apple" in seen.output_text
        tool: Any = {"type": "image_generation", "partial_images": 2}
        events = list(client.responses.create(model="mgem", input="Draw a blue car.", tools=[tool], stream=True))
        kinds = [event.type.rpartition(".")[2] for event in events]
        assert kinds.count("partial_image") == 2
        first: Any = events[-1]
        edited = client.responses.create(
            model="mgem",
            input="with a dog",
            previous_response_id=first.response.id,
            tools=[{"type": "image_generation", "action": "edit"}],
        )
        [call] = [each for each in edited.output if each.type == "image_generation_call"]
        assert call.revised_prompt is not None and "dog" in call.revised_prompt
