"""Pictures for lmms-eval's generation tasks: the model writes a caption after `<GEN>`, and a generator draws it.

Such a task reads its answer as JSON: `{"text": "...", "images": ["/path.png"]}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.core_model.dialogue.dialogue_images import images_of
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.recipes.eval.lmms.answering import Dialogue
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["DrawnAnswers", "TaskDrawing", "draws"]

TaskDrawing = Literal["auto", "always", "never"]
"""When to draw: for the generation tasks that are known, for every task, or for none."""

GENERATION_TASKS = ("WISE", "gedit_bench", "imgedit", "kris_bench", "ueval", "uni_mmmu")
"""lmms-eval's tasks whose answers are pictures, by the beginning of their names."""


def draws(task: str, mode: str) -> bool:
    """Return whether the answers to a task are pictures.

    Args:
        task: Name of the task.
        mode: When to draw.

    Raises:
        InputError: If there is no such mode.
    """
    if mode not in ("auto", "always", "never"):
        raise InputError(f"draw is {mode!r}. Allowed: 'auto', 'always', 'never'.")
    return mode == "always" or (mode == "auto" and task.startswith(GENERATION_TASKS))


class DrawnAnswers:
    """Answers questions with pictures.

    Args:
        reasoner: The model, which writes the captions.
        generator: Draws them.
        folder: Folder of the pictures.
    """

    def __init__(self, reasoner: GenProtocolModel, generator: ImageGenerator, folder: Path) -> None:
        self._reasoner = reasoner
        self._generator = generator
        self._folder = folder

    def answer(self, dialogues: Sequence[Dialogue], max_tokens: int, names: Sequence[str]) -> list[str]:
        """Return the JSON of each answer. All captions are drawn as one batch.

        Args:
            dialogues: The questions. Their pictures are shown to the model that writes the captions.
            max_tokens: Maximum tokens of an answer.
            names: Names of the questions, for the files of the pictures.

        Raises:
            ToolError: If a picture cannot be drawn.
        """
        answers = [self._asked(dialogue, max_tokens) for dialogue in dialogues]
        jobs = [
            (number, str(call["args"]["prompt"]))
            for number, answer in enumerate(answers)
            for call in answer.tool_calls
            if call["name"] == DRAW_TOOL_NAME
        ]
        files: list[list[str]] = [[] for _ in answers]
        self._folder.mkdir(parents=True, exist_ok=True)
        requests = [ImageRequest(prompt=caption) for _, caption in jobs]
        for event in draw(self._generator, requests) if requests else ():
            if not isinstance(event, ImageResult):
                continue
            if event.image is None:
                raise event.error or InputError(f"No picture was drawn for {event.request.prompt!r}.")
            number = jobs[event.index][0]
            file = self._folder / f"{_file_name(names[number])}-{event.index}.png"
            event.image.save(file)
            files[number].append(str(file.resolve()))
        return [
            json.dumps({"text": answer.text, "images": made}, ensure_ascii=False)
            for answer, made in zip(answers, files, strict=True)
        ]

    def _asked(self, dialogue: Dialogue, max_tokens: int) -> AIMessage:
        pictures = {f"picture-{number}": image for number, image in enumerate(images_of(dialogue))}
        blocks: list[str | dict[Any, Any]] = [{"type": "image", "file_id": name} for name in pictures]
        blocks.append({"type": "text", "text": _text_of(dialogue)})
        resolved = self._reasoner.model_copy(update={"image_resolver": pictures.__getitem__})
        return resolved.invoke([HumanMessage(blocks)], draw="always", temperature=0, max_tokens=max_tokens)


def _text_of(dialogue: Dialogue) -> str:
    texts = []
    for message in dialogue:
        content: str | Sequence[Mapping[str, Any]] = message["content"]
        texts += [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return "\n".join(text.strip() for text in texts if text.strip())


def _file_name(name: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    return f"{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
