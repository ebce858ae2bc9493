"""From a record to tokens, targets and picture files, by one of two sets of rules.

`repaired` makes marks and pictures match, and says what it changed; `faithful` has the authors' rules. Nothing here
reads the content of a picture, so that all records can be checked quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.core_model.prompts.templates import load_prompt_template, prompt_template_names, render_dialogue
from mgem_agent.core_model.prompts.tokens import ImageTokens, disarm_dialogue, encode_prompt
from mgem_agent.recipes.train.faithful import PICTURE, faithful_prompt
from mgem_agent.recipes.train.records import Images, repaired_dialogue

__all__ = ["EncodedRecord", "RecordEncoder", "RecordRules"]

RecordRules = Literal["repaired", "faithful"]


@dataclass(frozen=True)
class EncodedRecord:
    """A record as tokens.

    Args:
        input_ids: The ids.
        is_target: 1 for each token that the assistant writes, else 0.
        pictures: The pictures, in the order of their tokens.
        repairs: What was wrong with the marks of the pictures.
    """

    input_ids: list[int]
    is_target: list[int]
    pictures: tuple[Path | bytes, ...]
    repairs: tuple[str, ...] = ()


class RecordEncoder:
    """Renders and tokenises records.

    Args:
        processor: Its tokenizer and image tokens are used.
        prompt_template: Name of the dialogue format, or a chat template.
        rules: How records are read.
    """

    def __init__(self, processor: MiniGeminiProcessor, prompt_template: str, rules: RecordRules) -> None:
        self._processor = processor
        self._template = prompt_template
        is_name = prompt_template in prompt_template_names()
        self._jinja = load_prompt_template(prompt_template) if is_name else prompt_template
        self._rules = rules

    def check(self, record: Any, images: Images) -> tuple[str, ...]:
        """Check a record without tokenising it, and return its repairs.

        Args:
            record: The record.
            images: Where its pictures are.

        Raises:
            BrokenRecordError: If it is malformed, or a picture is missing.
        """
        if self._rules == "faithful":
            faithful_prompt(record, images, self._template)
            return ()
        return repaired_dialogue(record, images).repairs

    def encode(self, record: Any, images: Images) -> EncodedRecord:
        """Return a record as tokens.

        Args:
            record: The record.
            images: Where its pictures are.

        Raises:
            BrokenRecordError: If it is malformed, or a picture is missing.
            PromptError: If it cannot be rendered.
        """
        processor = self._processor
        if self._rules == "faithful":
            prompt = faithful_prompt(record, images, self._template)
            return self._tokens(prompt.text, prompt.spans, PICTURE, prompt.pictures, ())
        dialogue = repaired_dialogue(record, images)
        rendered = render_dialogue(
            disarm_dialogue(dialogue.messages, processor.tokenizer, processor.image_token),
            template=self._jinja,
            image_token=processor.image_token,
            return_assistant_spans=True,
        )
        return self._tokens(
            rendered.text, rendered.assistant_spans, processor.image_token, rendered.images, dialogue.repairs
        )

    def _tokens(
        self,
        text: str,
        spans: tuple[tuple[int, int], ...],
        mark: str,
        pictures: tuple[Any, ...],
        repairs: tuple[str, ...],
    ) -> EncodedRecord:
        tokenizer, image = self._processor.tokenizer, self._processor.image_tokens
        has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        tokens = encode_prompt(
            text,
            tokenizer,
            ImageTokens(mark, image.token_id, image.num_tokens),
            add_special_tokens=not has_bos,
            with_offsets=True,
        )
        return EncodedRecord(tokens.input_ids, tokens.mask(spans), pictures, repairs)
