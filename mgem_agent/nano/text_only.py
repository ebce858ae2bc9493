"""nano without vision: only the downloaded language model, for an installation without the vision weights.

It chats, tells stories and draws. It knows that a picture was shown, but answers a question about it with the statement
that it cannot see. It was not trained on the `<GEN>` protocol and is too small to follow it from a prompt, so captions
are requested with examples. Its model has the class of the core model, so that caches and streaming work unchanged; the
encoders are tiny, untrained, and never used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mgem_agent.chat_models.text_engine import PromptSize, SizingEngine, TextEnd, TextRequest, follows_grammar
from mgem_agent.errors import InputError
from mgem_agent.nano.drawing_intent import read_drawing_intent
from mgem_agent.nano.gguf_conversion import quiet_transformers
from mgem_agent.nano.language_model import LONGEST_REPETITION, find_language_model
from mgem_agent.prompts import render_prompt

if TYPE_CHECKING:
    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor

__all__ = ["TextOnlyEngine", "load_text_only"]

_UNSEEN = "(a picture)"

_CAPTION_TOKENS = 40
_MAX_TOLD = 600
"""Characters of a question with its answer that a caption is made of."""

_CAPTIONS = "nano captions"
"""Captions have a cache of their own: all begin with the same examples."""


class TextOnlyEngine:
    """Answers a dialogue in which pictures are replaced with the note that they were shown.

    Args:
        engine: The engine of the language model.
    """

    def __init__(self, engine: SizingEngine) -> None:
        self.engine = engine
        self.follows_grammar = follows_grammar(engine)

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer; see :class:`mgem_agent.chat_models.text_engine.TextEngine`.

        Raises:
            InputError: If the last message shows a picture that the model did not draw.
        """
        last = request.dialogue[-1]["content"]
        if _has_picture(last) and not _words(last).startswith(render_prompt("shown")):
            raise InputError(
                "nano cannot see in this installation: its vision weights are not here, only its language model. Ask "
                "without the picture, install a release of mgem-agent that has them, or name another model, such as "
                "YanweiLi/MGM-2B."
            )
        dialogue = [{**message, "content": _told(message["content"])} for message in request.dialogue]
        asked = dialogue[-1]["content"]
        if request.prefill.endswith("<h>"):
            yield from self._caption(request, f"{asked}\n{_first_sentence(request.prefill.removesuffix('<h>'))}")
            return
        if dialogue[-1].get("draw") and read_drawing_intent(asked) == "draw":
            yield "<h>"  # the picture is the complete answer
            yield from self._caption(request, asked)
            return
        for message in dialogue:
            message.pop("draw", None)  # it was not trained on `<GEN>`
        yield from self.engine.stream(replace(request, dialogue=dialogue))

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return the size of a request, with pictures as text."""
        dialogue = [{**message, "content": _told(message["content"])} for message in request.dialogue]
        return self.engine.prompt_size(replace(request, dialogue=dialogue))

    def _caption(self, request: TextRequest, told: str) -> Iterator[str | TextEnd]:
        """Yield a caption for a text, and the closing tag."""
        dialogue = [{"role": "system", "content": render_prompt("nano_caption")}]
        for line in render_prompt("nano_caption_examples").splitlines():
            dialogue += _example(*line.split(" => "))
        dialogue.append({"role": "user", "content": f"Picture: {' '.join(told.split())[:_MAX_TOLD]}"})
        options = {**request.options, "no_repeat_ngram_size": 0}  # a caption may repeat words
        short = replace(
            request,
            grammar=None,
            dialogue=dialogue,
            prefill="<h>",
            max_tokens=_CAPTION_TOKENS,
            temperature=0,
            options=options,
        )
        text, end = "", None
        for piece in self.engine.stream(replace(short, thread_id=_CAPTIONS)):
            if isinstance(piece, TextEnd):
                end = piece
            else:
                text += piece
        caption, tag, _ = text.partition("</h>")
        yield f"{caption if tag else caption.rpartition(',')[0] or caption} </h>"
        if end is not None:
            yield end


def load_text_only(
    *, language_model: str | os.PathLike[str] | None = None, offline: bool | None = None, exact: bool = False
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor]:
    """Return the language model as a core model, and its processor.

    Args:
        language_model: Its source; see :func:`find_language_model`.
        offline: Whether downloads are forbidden; by default from the environment.
        exact: Whether PyTorch computes every token, without the compiled code for a CPU.

    Raises:
        CheckpointError: If it is not in the cache and cannot be downloaded.
    """
    import torch
    from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel

    from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
    from mgem_agent.core_model.configuration import HighResVisionConfig
    from mgem_agent.core_model.cpu_decoding import enable_cpu_decoding
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
    model.generation_config.no_repeat_ngram_size = LONGEST_REPETITION
    if not exact:
        enable_cpu_decoding(model)
    return model, MiniGeminiProcessor.from_model_config(model.config, AutoTokenizer.from_pretrained(folder))


def _example(asked: str, caption: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Picture: {asked}"}, {"role": "assistant", "content": f"<h> {caption} </h>"}]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]


def _has_picture(content: Any) -> bool:
    return not isinstance(content, str) and any(part["type"] == "image" for part in content)


def _words(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _told(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a message's content as text."""
    if isinstance(content, str):
        return content
    return "\n".join(_UNSEEN if part["type"] == "image" else str(part["text"]) for part in content)
