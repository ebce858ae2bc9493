"""Generation data from a large chat model: descriptions or conversations in, records with captions out.

This is the paper's recipe (Mini-Gemini, section 3.3) with any chat model of LangChain. Several requests run at the same
time. Answers are validated; invalid ones go to `FILE.rejected.jsonl` with the reason. A resumed run skips the sources
in both files, and repeats requests that failed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter, read_records
from mgem_agent.recipes.data.teacher_prompts import (
    RejectedAnswerError,
    TeacherKind,
    TeacherSource,
    read_answer,
    teacher_prompt,
)
from mgem_agent.user_files import user_path

__all__ = ["TeacherReport", "read_sources", "teach"]

_BATCH = 16  # requests in a batch, per concurrent request; an interruption loses at most one batch


@dataclass
class TeacherReport:
    """Results of a run of the teacher.

    Attributes:
        num_kept: Number of records written.
        num_done_before: Number of sources done by earlier runs.
        num_failed: Number of failed requests; the next run repeats them.
        rejected: Number of rejected answers by reason.
        num_input_tokens: Input tokens, as the model counts them.
        num_output_tokens: Output tokens.
        last_failure: Message of the last failed request.
    """

    num_kept: int = 0
    num_done_before: int = 0
    num_failed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    last_failure: str = ""

    def cost(self, *, input_price: float, output_price: float) -> float:
        """Return the cost of the tokens, from prices per million tokens."""
        return (self.num_input_tokens * input_price + self.num_output_tokens * output_price) / 1e6


def read_sources(path: str | Path, kind: TeacherKind) -> list[TeacherSource]:
    """Read the sources of records.

    Args:
        path: For `recaption`, a text file with one description a line; for `in_context`, JSON lines of records with
            conversations, as `mgem data` and LLaVA write them.
        kind: Kind of the records.

    Raises:
        InputError: If the file cannot be read, or is empty.
    """
    path = user_path(path)
    if kind == "recaption":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{str(path)!r} cannot be read: {error}. Name a text file, one description a line."
            ) from error
        sources = [
            TeacherSource(f"{path.stem}-{number}", line.strip()) for number, line in enumerate(lines) if line.strip()
        ]
    else:
        sources = [
            TeacherSource(str(record.get("id", f"{path.stem}-{number}")), rounds=_rounds(record, number))
            for number, record in enumerate(read_records(path))
        ]
    if not sources:
        raise InputError(f"{str(path)!r} has no sources.")
    return sources


def _rounds(record: dict[str, Any], number: int) -> tuple[tuple[str, str], ...]:
    turns = record["conversations"]
    try:
        return tuple(
            (question["value"], answer["value"]) for question, answer in zip(turns[::2], turns[1::2], strict=True)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Record {number} does not alternate between questions and answers.") from error


def teach(
    model: BaseChatModel,
    sources: Sequence[TeacherSource],
    path: str | Path,
    *,
    kind: TeacherKind,
    seed: int = 0,
    max_concurrency: int = 4,
    report: Callable[[int], None] = lambda done: None,
) -> TeacherReport:
    """Ask a teacher for records; sources done by an earlier run are skipped.

    Args:
        model: The teacher. It must answer in plain text, without tools.
        sources: The sources.
        path: The file of records.
        kind: Kind of the records.
        seed: Seed of the examples in the prompts.
        max_concurrency: Maximum number of concurrent requests.
        report: Called with the number of sources done.

    Returns:
        Counts of records, rejected answers and tokens.

    Raises:
        InputError: If a number is too small, or the file was made with other settings.
    """
    if max_concurrency < 1:
        raise InputError(f"max_concurrency is {max_concurrency!r}. Give 1 or more.")
    path = user_path(path)
    rejected_path = path.with_name(f"{path.name}.rejected.jsonl")
    settings = {"kind": kind, "seed": seed}
    result = TeacherReport()
    with RecordWriter.open(path, settings) as kept, RecordWriter.open(rejected_path, settings) as rejected:
        done = {*_ids(path), *_ids(rejected_path)}
        waiting = [source for source in sources if source.id not in done]
        result.num_done_before = len(sources) - len(waiting)
        for source, answer in _ask(model, waiting, kind, seed, max_concurrency):
            _take(source, answer, kind, kept, rejected, result)
            report(result.num_done_before + result.num_kept + result.rejected.total())
    return result


def _ids(path: Path) -> set[str]:
    with path.open(encoding="utf-8") as file:
        return {json.loads(line)["id"] for line in file}


def _ask(
    model: BaseChatModel, sources: Sequence[TeacherSource], kind: TeacherKind, seed: int, max_concurrency: int
) -> Iterator[tuple[TeacherSource, AIMessage | Exception]]:
    config = RunnableConfig(max_concurrency=max_concurrency)
    step = _BATCH * max_concurrency
    for start in range(0, len(sources), step):
        batch = sources[start : start + step]
        prompts: list[Any] = [teacher_prompt(source, kind, seed) for source in batch]
        for index, answer in model.batch_as_completed(prompts, config, return_exceptions=True):
            if isinstance(answer, (AIMessage, Exception)):
                yield batch[index], answer


def _take(
    source: TeacherSource,
    answer: AIMessage | Exception,
    kind: TeacherKind,
    kept: RecordWriter,
    rejected: RecordWriter,
    result: TeacherReport,
) -> None:
    """Write one answer to the records or to the rejected answers."""
    if isinstance(answer, Exception):
        result.num_failed += 1
        result.last_failure = f"{type(answer).__name__}: {answer}"
        return
    if answer.usage_metadata is not None:
        result.num_input_tokens += answer.usage_metadata["input_tokens"]
        result.num_output_tokens += answer.usage_metadata["output_tokens"]
    text = str(answer.text)
    try:
        turns = read_answer(text, source, kind)
    except RejectedAnswerError as error:
        result.rejected[error.reason] += 1
        rejected.write({"id": source.id, "reason": error.reason, "answer": text})
        return
    kept.write({"id": source.id, "kind": kind, "split": "train", "conversations": turns})
    result.num_kept += 1
