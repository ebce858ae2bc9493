"""Generation data from a large chat model: descriptions or conversations in, records with captions out.

This is the paper's recipe (Mini-Gemini, section 3.3; there about 16,000 sources gave 13,000 records) with any chat
model of LangChain, in many requests at a time, within a rate and a cost. Sources with the same words are asked about
once. Invalid answers, and captions that an earlier record has, go to `FILE.rejected.jsonl` with the reason. A resumed
run skips the sources in both files, and repeats requests that failed, which `FILE.failed.jsonl` lists with their
errors. `FILE.report.json` has the figures of all runs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter, read_records
from mgem_agent.recipes.data.teacher_limits import Requests, TeacherLimits, num_tokens
from mgem_agent.recipes.data.teacher_prompts import (
    RejectedAnswerError,
    TeacherKind,
    TeacherSource,
    read_answer,
    teacher_prompt,
)
from mgem_agent.recipes.data.teacher_sources import distinct_sources, read_sources, same_words
from mgem_agent.redaction import redact
from mgem_agent.user_files import user_path

__all__ = ["TeacherReport", "read_sources", "teach"]

_CAPTION = "<h>"


@dataclass
class TeacherReport:
    """Results of the runs of the teacher for one file.

    Attributes:
        num_sources: Number of sources.
        num_repeated: Number of sources with the words of an earlier one, which are left out.
        num_records: Number of records in the file.
        num_kept: Number of records that this run wrote.
        num_done_before: Number of sources done by earlier runs.
        num_failed: Number of failed requests of this run; the next run repeats them.
        rejected: Number of rejected answers of all runs, by reason.
        num_input_tokens: Input tokens of all runs: as the model counts them, else four characters a token.
        num_output_tokens: Output tokens of all runs.
        num_captions: Number of captions in the file.
        num_caption_words: Their words.
        cost: Cost of all runs, by the prices of each run.
        last_failure: Message of the last failed request.
        stopped_by: Why not all sources were asked about; empty if they were.
    """

    num_sources: int = 0
    num_repeated: int = 0
    num_records: int = 0
    num_kept: int = 0
    num_done_before: int = 0
    num_failed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    num_captions: int = 0
    num_caption_words: int = 0
    cost: float = 0.0
    last_failure: str = ""
    stopped_by: str = ""

    @property
    def yield_share(self) -> float:
        """Records as a share of the sources, from 0 to 1."""
        return self.num_records / self.num_sources if self.num_sources else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**vars(self), "rejected": dict(self.rejected), "yield_share": self.yield_share}


def teach(
    model: BaseChatModel,
    sources: Sequence[TeacherSource],
    path: str | Path,
    *,
    kind: TeacherKind,
    seed: int = 0,
    limits: TeacherLimits | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> TeacherReport:
    """Ask a teacher for records; sources done by an earlier run are skipped.

    Args:
        model: The teacher. It must answer in plain text, without tools.
        sources: The sources, with unique ids.
        path: The file of records.
        kind: Kind of the records.
        seed: Seed of the examples in the prompts.
        limits: Limits of the requests.
        report: Called with the number of sources done.

    Returns:
        Counts of records, rejected answers and tokens, of all runs.

    Raises:
        InputError: If the file was made with other settings.
    """
    path = user_path(path)
    rejected_path = path.with_name(f"{path.name}.rejected.jsonl")
    wanted = limits or TeacherLimits()
    settings = {"kind": kind, "seed": seed}
    with RecordWriter.open(path, settings) as kept, RecordWriter.open(rejected_path, settings) as rejected:
        answers = _Answers(path, kind, kept, rejected, wanted)
        distinct = distinct_sources(sources)
        waiting = [source for source in distinct if source.id not in answers.done]
        result = answers.result
        result.num_sources, result.num_repeated = len(sources), len(sources) - len(distinct)
        result.num_done_before = len(distinct) - len(waiting)
        requests = Requests(model, wanted, result.cost)
        prompts = [(source, teacher_prompt(source, kind, seed)) for source in waiting]
        texts = {source.id: prompt for source, prompt in prompts}
        for count, (source, answer) in enumerate(requests.answers(prompts), start=1):
            answers.take(source, texts[source.id], answer)
            report(result.num_done_before + count - result.num_failed)
        result.stopped_by = requests.stopped_by
        answers.write_report()
    return result


class _Answers:
    """The files of the answers: records, rejected answers, and figures.

    Attributes:
        done: Ids of sources that were answered.
        result: The figures.
    """

    def __init__(
        self, path: Path, kind: TeacherKind, kept: RecordWriter, rejected: RecordWriter, limits: TeacherLimits
    ) -> None:
        self._kind: TeacherKind = kind
        self._kept, self._rejected, self._limits = kept, rejected, limits
        self._file = path.with_name(f"{path.name}.report.json")
        self._failed = path.with_name(f"{path.name}.failed.jsonl")
        self._failed.unlink(missing_ok=True)
        self._captions: set[str] = set()
        self.result = TeacherReport()
        self.done: set[str] = set()
        for record in read_records(path):
            self.done.add(record["id"])
            self._count(record["conversations"])
        with rejected.path.open(encoding="utf-8") as file:
            for line in file:
                answer = json.loads(line)
                self.done.add(answer["id"])
                self.result.rejected[answer["reason"]] += 1
        self._read_spending()

    def _read_spending(self) -> None:
        """Read what earlier runs spent, which is only in the report."""
        if not self._file.is_file():
            return
        try:
            before = json.loads(self._file.read_text(encoding="utf-8"))
            for name in ("num_input_tokens", "num_output_tokens", "cost"):
                setattr(self.result, name, before[name])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{str(self._file)!r} is not the report of an earlier run, so its cost is not known. Delete it to "
                "count from zero."
            ) from error

    def _count(self, turns: Sequence[dict[str, Any]]) -> None:
        captions = _captions(turns)
        self._captions.add(same_words(*captions))
        self.result.num_records += 1
        self.result.num_captions += len(captions)
        self.result.num_caption_words += sum(len(caption.split()) for caption in captions)

    def take(self, source: TeacherSource, prompt: str, answer: AIMessage | Exception) -> None:
        """Write one answer to the records or to the rejected answers, and what it cost to the report."""
        result = self.result
        if isinstance(answer, Exception):
            result.num_failed += 1
            result.last_failure = redact(f"{type(answer).__name__}: {answer}")
            row = {"id": source.id, "error": redact(str(answer)), "error_kind": type(answer).__name__}
            with self._failed.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            return
        read, written = num_tokens(prompt, answer)
        result.num_input_tokens += read
        result.num_output_tokens += written
        result.cost += self._limits.cost(read, written)
        try:
            turns = read_answer(str(answer.text), source, self._kind)
            if same_words(*_captions(turns)) in self._captions:
                raise RejectedAnswerError("captions of an earlier record")
        except RejectedAnswerError as error:
            result.rejected[error.reason] += 1
            self._rejected.write({"id": source.id, "reason": error.reason, "answer": str(answer.text)})
        else:
            self._kept.write({"id": source.id, "kind": self._kind, "split": "train", "conversations": turns})
            self._count(turns)
            result.num_kept += 1
        self.write_report()

    def write_report(self) -> None:
        """Write the figures."""
        part = self._file.with_name(f"{self._file.name}.part")
        part.write_text(json.dumps(self.result.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
        os.replace(part, self._file)


def _captions(turns: Sequence[dict[str, Any]]) -> list[str]:
    """Return the captions in the answers of a record."""
    answers = (turn["value"] for turn in turns if turn["from"] == "gpt")
    return [answer.rpartition(_CAPTION)[2].removesuffix("</h>").strip() for answer in answers if _CAPTION in answer]
