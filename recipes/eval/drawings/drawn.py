"""Draw prompts by a generator alone, or by an agent that writes the captions; pictures that exist are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from PIL import Image

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["draw_prompts", "drawn_files"]

_AT_ONCE = 8


def draw_prompts(
    prompts: Sequence[str],
    generator: ImageGenerator,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    reasoner: GenProtocolModel | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path | None]:
    """Draw each prompt.

    Args:
        prompts: The prompts.
        generator: The generator.
        folder: Folder of the pictures and of `drawn.jsonl`, their log.
        settings: What the pictures depend on.
        reasoner: Writes the caption of each prompt after `<GEN>`; None to draw the prompts themselves.
        seed: Seed of the first picture.
        report: Called with the number done and the total.

    Returns:
        The file of each picture; None where it failed, which another run tries again.

    Raises:
        InputError: If the folder has pictures of other settings.
        GeneratorUnavailableError: If the generator cannot draw at all.
    """
    with AnswerLog.open(folder / "drawn.jsonl", {**settings, "seed": seed}) as log:
        missing = [n for n, prompt in enumerate(prompts) if not _is_there(folder, log, n, prompt)]
        for start in range(0, len(missing), _AT_ONCE):
            report(len(prompts) - len(missing) + start, len(prompts))
            some = missing[start : start + _AT_ONCE]
            captions = {number: _caption(reasoner, prompts[number]) for number in some}
            known = [number for number in some if captions[number]]
            requests = [ImageRequest(prompt=str(captions[number]), seed=seed + number) for number in known]
            for index, image in _drawn(generator, requests):
                number = known[index]
                part = _file(folder, number).with_suffix(".part")
                image.save(part, format="PNG")
                os.replace(part, _file(folder, number))
                log.add({"id": str(number), "prompt": prompts[number], "caption": captions[number]})
        report(len(prompts), len(prompts))
        return [
            _file(folder, number) if _is_there(folder, log, number, prompt) else None
            for number, prompt in enumerate(prompts)
        ]


def drawn_files(folder: Path, prompts: Sequence[str]) -> list[Path | None]:
    """Return the pictures of prompts in a folder: `000000.png` and so on, in the order of the prompts.

    Args:
        folder: A folder of `draw_prompts`, or of another system.
        prompts: The prompts.
    """
    files = [_file(folder, number) for number in range(len(prompts))]
    return [file if file.is_file() else None for file in files]


def _drawn(generator: ImageGenerator, requests: Sequence[ImageRequest]) -> Iterator[tuple[int, Image.Image]]:
    for event in draw(generator, requests) if requests else ():
        if isinstance(event, ImageResult):
            if isinstance(event.error, GeneratorUnavailableError):
                raise event.error
            if event.image is not None:
                yield event.index, event.image


def _caption(reasoner: GenProtocolModel | None, prompt: str) -> str | None:
    if reasoner is None:
        return prompt[:10_000]
    answer = reasoner.invoke([HumanMessage(prompt)], draw="always", temperature=0)
    return next((str(call["args"]["prompt"]) for call in answer.tool_calls if call["name"] == DRAW_TOOL_NAME), None)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.png"


def _is_there(folder: Path, log: AnswerLog, number: int, prompt: str) -> bool:
    stored = log.answers.get(str(number))
    return stored is not None and stored["prompt"] == prompt and _file(folder, number).is_file()
