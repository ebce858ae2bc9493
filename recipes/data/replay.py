"""The base model's own answers to questions without a picture (self-distillation).

A model that is trained only on answers like "A fox." forgets how to write longer ones. Its own earlier answers, mixed
into the training data, prevent this (Yang et al., 2024, "Self-Distillation Bridges Distribution Gap in Language Model
Fine-Tuning").

    {"id": "replay-0-7", "kind": "replay", "conversations": [{"from": "human", "value": "What is a fox?"},
                                                             {"from": "gpt", "value": "A fox is …"}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mgem_agent.core_model.prompts.batch import pad_rows
from mgem_agent.core_model.prompts.templates import load_prompt_template, render_dialogue
from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.user_files import user_path

__all__ = ["write_replay"]

_VERSION = 1
_SENTENCE_END = re.compile(r"[.!?][\"'”)]*(?=\s|$)")


def write_replay(
    folder: str | Path,
    num_answers: int,
    question: Callable[[int, int], str],
    model: Any,
    tokenizer: Any,
    *,
    prompt_template: str = "chatml",
    seed: int = 0,
    batch_size: int = 16,
    max_tokens: int = 128,
    report: Callable[[int], None] | None = None,
) -> Path:
    """Write a language model's answers as records; existing ones are kept.

    Args:
        folder: Folder of `replay_train.jsonl`.
        num_answers: Total number of answers.
        question: Returns the question of an index and a seed.
        model: A causal language model of transformers, before it is trained.
        tokenizer: Its tokenizer.
        prompt_template: Dialogue format; use that of the training.
        seed: Seed of the questions and of the answers.
        batch_size: Answers in a batch.
        max_tokens: Maximum tokens of an answer; a longer one is cut after a sentence.
        report: Called with the number done.

    Returns:
        The file of records.

    Raises:
        InputError: If the number is too small, or the file holds records of other settings.
    """
    if num_answers < 1:
        raise InputError(f"{num_answers} answers cannot be written. Give 1 or more.")
    path = user_path(folder) / "replay_train.jsonl"
    name = str(getattr(model.config, "name_or_path", "") or model.config.model_type)
    settings = {
        "model": Path(name).name, "seed": seed, "max_tokens": max_tokens, "template": prompt_template,
        "batch_size": batch_size, "version": _VERSION,
    }  # fmt: skip
    with RecordWriter.open(path, settings) as writer:
        while writer.num_records < num_answers:
            first = writer.num_records
            questions = [question(first + row, seed) for row in range(min(batch_size, num_answers - first))]
            answers = _answers(questions, model, tokenizer, prompt_template, max_tokens, seed * 1_000_003 + first)
            for row, (asked, answer) in enumerate(zip(questions, answers, strict=True)):
                turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
                writer.write({"id": f"replay-{seed}-{first + row}", "kind": "replay", "conversations": turns})
            if report is not None:
                report(writer.num_records)
    return path


@torch.no_grad()
def _answers(
    questions: list[str], model: Any, tokenizer: Any, prompt_template: str, max_tokens: int, seed: int
) -> list[str]:
    """Return a sampled answer to each question."""
    template = load_prompt_template(prompt_template)
    prompts = [
        render_dialogue([{"role": "user", "content": question}], template=template, add_generation_prompt=True).text
        for question in questions
    ]
    rows = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    width, pad = max(map(len, rows)), tokenizer.pad_token_id or 0
    ids = torch.tensor(pad_rows(rows, width, pad, "left"), device=model.device)
    mask = torch.tensor(pad_rows([[1] * len(row) for row in rows], width, 0, "left"), device=model.device)
    torch.manual_seed(seed)
    written = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        repetition_penalty=1.05,
        max_new_tokens=max_tokens,
        pad_token_id=pad,
    )
    return [_whole(tokenizer.decode(row[width:], skip_special_tokens=True)) for row in written]


def _whole(text: str) -> str:
    """Return a text without an incomplete last sentence."""
    text = text.strip()
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else text
