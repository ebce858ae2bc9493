"""nano without eyes: the fetched language model alone, where the vision weights are not in the installation.

It chats, tells stories and draws; of a picture it is told that there is one, and asked about one it says that it cannot
see, rather than make something up. Its model has the form of the core model, so that caches and streaming are the same;
the encoders in it are of the smallest size, know nothing, and are never given a picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mgem_agent.errors import InputError
from mgem_agent.json_calls import load_prompt
from mgem_agent.nano.gguf_conversion import quiet_transformers
from mgem_agent.nano.language_model import find_language_model
from mgem_agent.text_engine import TextEnd, TextEngine, TextRequest

if TYPE_CHECKING:
    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor

__all__ = ["TextOnlyEngine", "load_text_only"]

_UNSEEN = "(a picture)"


class TextOnlyEngine:
    """Goes on with a dialogue whose pictures it is only told of.

    Args:
        engine: Writes the text.
    """

    def __init__(self, engine: TextEngine) -> None:
        self.engine = engine

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; see :class:`mgem_agent.text_engine.TextEngine`.

        Raises:
            InputError: If the last message shows a picture that someone else than the model itself has made.
        """
        last = request.dialogue[-1]["content"]
        if _has_picture(last) and not _words(last).startswith(load_prompt("shown")):
            raise InputError(
                "nano cannot see in this installation: its vision weights are not here, only its language model. Ask "
                "without the picture, install a release of mgem-agent that has them, or name another model, such as "
                "YanweiLi/MGM-2B."
            )
        dialogue = [{**message, "content": _told(message["content"])} for message in request.dialogue]
        yield from self.engine.stream(replace(request, dialogue=dialogue))


def load_text_only(
    *, language_model: str | os.PathLike[str] | None = None, offline: bool | None = None
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Return the language model in the form of the core model, and a processor for it.

    Args:
        language_model: Where to take it from; see :func:`find_language_model`.
        offline: Whether nothing may be fetched; by default as the environment says.

    Raises:
        CheckpointError: If it is not here and cannot be had.
    """
    import torch
    from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel

    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
    from mgem_agent.core_model.configuration import HighResVisionConfig
    from mgem_agent.core_model.high_res_encoder import HighResEncoder

    folder = find_language_model(language_model, offline=offline)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with quiet_transformers():
        model = MiniGeminiForConditionalGeneration.from_vision_text_pretrained(
            CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=14)),
            HighResEncoder(HighResVisionConfig(hidden_sizes=(4, 4, 4, 4), depths=(1, 1, 1, 1))),
            folder,
            dtype=torch.float32,
            prompt_template="chatml",
            high_res_image_size=64,
            vision_feature_layer=-1,
        )
    return model, MiniGeminiProcessor.from_model_config(model.config, AutoTokenizer.from_pretrained(folder))


def _has_picture(content: Any) -> bool:
    return not isinstance(content, str) and any(part["type"] == "image" for part in content)


def _words(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _told(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a message's content in words."""
    if isinstance(content, str):
        return content
    return "\n".join(_UNSEEN if part["type"] == "image" else str(part["text"]) for part in content)
