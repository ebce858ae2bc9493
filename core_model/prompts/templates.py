"""The dialogue formats of the language models, and rendering a dialogue with one.

Each family's format is a Jinja file in `formats/`. The common part (checking messages, placing images) is in
`_dialogue.jinja`. `load_prompt_template` joins the two and returns an ordinary chat template that any tool of the
transformers ecosystem can render.

Rendering here adds two things. Messages are first converted to plain dictionaries, with `<image>` typed as text removed
in linear time. And any error of a template becomes a `PromptError`.
"""

from __future__ import annotations

import importlib.resources
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from mgem_agent.core_model.prompts.bounded_rendering import bounded_rendering
from mgem_agent.errors import PromptError

__all__ = [
    "WRITES_BOS",
    "RenderedDialogue",
    "is_own_template",
    "load_prompt_template",
    "prompt_template_names",
    "prompt_template_stop_tokens",
    "render_dialogue",
]

WRITES_BOS = "{{- bos_token -}}"
"""Before a template, it writes BOS where the server tokenises without; this package passes no such variable."""

STOP_TOKENS = {
    "chatml": ("<|im_end|>",),
    "chatml_direct": ("<|im_end|>",),
    "gemma": ("<end_of_turn>",),
    "llama_3": ("<|eot_id|>",),
    "mistral_instruct": (),
    "plain": (),
    "vicuna_v1": (),
}
"""Tokens that end an answer besides the tokenizer's EOS, by family."""

IMAGE_SOURCES = ("image", "path", "url", "base64")
"""Keys under which a part of a message may hold its image."""

RENDER_LOCK = threading.Lock()
"""Protects the compiled template, which all threads share and in which transformers tracks the assistant's spans."""


@dataclass(frozen=True)
class RenderedDialogue:
    """A dialogue as text.

    Args:
        text: The prompt, with the mark `<image>` for each image.
        images: The content of the dialogue's image parts, in order, as `load_image` takes it; None for an empty
            part.
        assistant_spans: Start and end, in characters of `text`, of the text that the assistant must generate in each
            of its turns: the answer and the end of the turn. Empty unless requested.
    """

    text: str
    images: tuple[Any, ...]
    assistant_spans: tuple[tuple[int, int], ...] = ()


def prompt_template_names() -> tuple[str, ...]:
    """Return the names of the dialogue formats, sorted."""
    return tuple(sorted(STOP_TOKENS))


def load_prompt_template(name: str) -> str:
    """Return the chat template of a family.

    Args:
        name: One of `prompt_template_names()`.

    Raises:
        PromptError: If there is no template of that name.
    """
    check_name(name)
    folder = importlib.resources.files("mgem_agent.core_model.prompts") / "formats"
    return "".join((folder / f"{part}.jinja").read_text(encoding="utf-8") for part in ("_dialogue", name))


def is_own_template(template: str) -> bool:
    """Return whether a chat template was written by `load_prompt_template`, of this release or another.

    Args:
        template: A chat template.
    """
    head = load_prompt_template(prompt_template_names()[0]).partition(";")[0]
    return template.removeprefix(WRITES_BOS).startswith(head)


def prompt_template_stop_tokens(name: str) -> tuple[str, ...]:
    """Return the tokens that end an answer of this family in addition to the tokenizer's EOS.

    Args:
        name: One of `prompt_template_names()`.

    Raises:
        PromptError: If there is no template of that name.
    """
    check_name(name)
    return STOP_TOKENS[name]


def check_name(name: str) -> None:
    if name not in STOP_TOKENS:
        raise PromptError(f"There is no prompt template {name!r}. Allowed: {', '.join(prompt_template_names())}.")


def remove_marks(text: str, mark: str) -> str:
    """Remove every mark from a text, including marks that only form when another is removed.

    Args:
        text: Any text.
        mark: The mark, which must not begin with any of its own endings, as `<image>` does not.
    """
    if mark not in text:
        return text
    kept: list[str] = []
    for character in text:
        kept.append(character)
        if character == mark[-1] and "".join(kept[-len(mark) :]) == mark:
            del kept[-len(mark) :]
    return "".join(kept)


def render_dialogue(
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str,
    image_token: str = "<image>",
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    return_assistant_spans: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> RenderedDialogue:
    """Render a dialogue.

    Args:
        messages: Mappings with `role`, `content` (a string, or a list of parts) and other keys that the template reads.
            A part is `{"type": "text", "text": …}`, or `{"type": "image"}` with the image under `image`, `path`, `url`
            (a data URL) or `base64`, or with none, or `{"type": "image_url", "image_url": {"url": …}}`.
        template: A chat template.
        image_token: The mark of an image.
        add_generation_prompt: Whether to end with the header of the assistant's next turn.
        continue_final_message: Whether to leave the last message open, for the model to continue.
        return_assistant_spans: Whether to return the spans of the assistant's text.
        variables: More variables for the template, such as `number_images`.

    Raises:
        PromptError: If the dialogue is malformed, or the template rejects it.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise PromptError(f"A dialogue is a list of messages with at least one, got {messages!r:.80}.")
    if continue_final_message and (add_generation_prompt or return_assistant_spans):
        raise PromptError(
            "continue_final_message leaves the last message open. "
            "Do not combine it with add_generation_prompt or return_assistant_tokens_mask."
        )
    plain: list[dict[str, Any]] = []
    images: list[Any] = []
    for index, message in enumerate(messages, start=1):
        plain.append(plain_message(message, f"Message {index}", image_token, images))
    render: Any = render_jinja_template  # its annotation omits the spans
    try:
        with RENDER_LOCK, bounded_rendering():
            texts, spans = render(
                conversations=[plain],
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                return_assistant_tokens_mask=return_assistant_spans,
                image_token=image_token,
                **(variables or {}),
            )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise PromptError(str(error)) from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise PromptError(
            f"The chat template does not terminate ({type(error).__name__}). Give another: chat_template=…, or "
            "the name of a prompt_template."
        ) from error
    assistant_spans = tuple((int(start), int(end)) for start, end in spans[0]) if return_assistant_spans else ()
    return RenderedDialogue(texts[0], tuple(images), assistant_spans)


def plain_message(message: Any, name: str, mark: str, images: list[Any]) -> dict[str, Any]:
    """Return a message in the form that templates read, and append its images to `images`."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise PromptError(f"{name} is {message!r:.80}. A message is a mapping with 'role' and 'content'.")
    plain = {key: value for key, value in message.items() if value is not None}
    content = plain.get("content")
    if content is None:
        return plain  # some templates need no content; ours report what is missing
    if isinstance(content, str):
        plain["content"] = remove_marks(content, mark)
        return plain
    if not isinstance(content, (list, tuple)):
        raise PromptError(f"{name} has the content {content!r:.80}. Give a string or a list of parts.")
    parts: list[dict[str, str]] = []
    for part in content:
        kind, value = read_part(part, name)
        if kind == "image":
            images.append(value)
            parts.append({"type": "image"})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += value
        else:
            parts.append({"type": "text", "text": value})
    for text_part in parts:
        if "text" in text_part:
            text_part["text"] = remove_marks(text_part["text"], mark)
    plain["content"] = parts
    return plain


def read_part(part: Any, name: str) -> tuple[str, Any]:
    """Return the kind of a part, `text` or `image`, and its content."""
    if isinstance(part, str):
        return "text", part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return "text", part["text"]
    if kind == "image_url":
        value = part.get("image_url")
        return "image", image_of({"url": value.get("url") if isinstance(value, Mapping) else value}, name)
    if kind == "image":
        return "image", image_of(part, name)
    raise PromptError(
        f"{name} has the part {part!r:.80}. "
        "Allowed: {'type': 'text', 'text': …}, {'type': 'image', 'image' or 'path' or 'url' or 'base64': …}."
    )


def image_of(part: Mapping[str, Any], name: str) -> Any:
    """Return the content of an image part as `load_image` takes it, or None if it is empty."""
    held = [key for key in IMAGE_SOURCES if part.get(key) is not None]
    if not held:
        return None
    if len(held) > 1:
        raise PromptError(f"{name} has an image part with {' and '.join(map(repr, held))}. Give one of them.")
    key, value = held[0], part[held[0]]
    if key == "image":
        return value
    if key == "path" and isinstance(value, os.PathLike):
        return value
    if not isinstance(value, str):
        raise PromptError(f"{name} has an image part whose {key!r} is a {type(value).__name__!r}. Give a string.")
    if key == "path":
        return Path(value)  # never a data URL
    if value[:5].lower() == "data:":
        return value
    if key == "base64":
        return f"data:;base64,{value}"
    # Never read a url as a path: it may come from someone who may not read this machine's files.
    raise PromptError(
        f"{name} has an image part with the url {value[:80]!r}. URLs are not downloaded here: download the picture and "
        f"give it as 'image' or 'path', or give a data URL."
    )
