"""Prompts with questions about what they say, in the form of GenEval 2.

GenEval 2's own 800 prompts are licensed CC BY-NC, so they do not ship. Fetch `geneval2_data.jsonl` from
https://github.com/facebookresearch/GenEval2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mgem_agent.errors import InputError
from mgem_agent.user_files import read_user_file

__all__ = ["EvalPrompt", "read_prompts"]

_MAX_BYTES = 64 << 20


class EvalPrompt(BaseModel):
    """A prompt and the questions about it.

    Attributes:
        prompt: The prompt.
        atom_count: Number of things that it says; GenEval 2 does not count "a" and "and".
        vqa_list: Questions with their right answers: "Yes", or a number in words for "How many …".
        skills: What each question is about: object, count, attribute, position or verb.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str = Field(min_length=1)
    atom_count: int = Field(ge=1)
    vqa_list: tuple[tuple[str, str], ...] = Field(min_length=1)
    skills: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.skills) != len(self.vqa_list):
            raise ValueError(f"{len(self.vqa_list)} questions have {len(self.skills)} skills.")
        return self


def read_prompts(file: Path) -> list[EvalPrompt]:
    """Read prompts, one JSON object a line.

    Args:
        file: `geneval2_data.jsonl`, or a file of the same form.

    Raises:
        InputError: If the file is missing or empty, or a line does not have this form.
    """
    try:
        lines = read_user_file(file, "The prompts", max_bytes=_MAX_BYTES).splitlines()
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {str(file)!r}. GenEval 2's is geneval2_data.jsonl, of "
            "github.com/facebookresearch/GenEval2."
        ) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(EvalPrompt.model_validate(json.loads(line)))
        except (json.JSONDecodeError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise InputError(
                f"Line {number} of {str(file)!r} is no prompt of GenEval 2's form: {reason}. It needs prompt, "
                "atom_count, vqa_list and skills."
            ) from error
    if not found:
        raise InputError(f"{str(file)!r} has no prompts. Give one JSON object a line.")
    return found
