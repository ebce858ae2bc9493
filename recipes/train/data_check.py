"""Checking every record of a run as the trainer will read it, on all cores, before anything is trained."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch.utils.data import DataLoader, Dataset

from mgem_agent.recipes.train.config import SourceConfig, TrainConfig
from mgem_agent.recipes.train.examples import BrokenRecord, Examples, Inspection
from mgem_agent.recipes.train.model_outline import load_processor
from mgem_agent.recipes.train.record_sources import open_records

__all__ = ["CheckReport", "check_records", "checked_examples"]

_CHUNK = 64
_FIRST_EDGE = 128


@dataclass
class CheckReport:
    """What was found.

    Args:
        num_records: Number of records by file.
        dropped: Records that the trainer cannot use.
        problems: Their number by file and reason.
        repairs: Number of repaired records by file and repair.
        lengths: Tokens of each record that could be tokenised, visual tokens included.
        num_images: Pictures of all records.
    """

    num_records: Counter[str] = field(default_factory=Counter)
    dropped: list[BrokenRecord] = field(default_factory=list)
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    repairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    lengths: array[int] = field(default_factory=lambda: array("I"))
    num_images: int = 0

    def add(self, found: Inspection) -> None:
        """Add a record.

        Args:
            found: What was found about it.
        """
        self.num_records[found.file] += 1
        self.num_images += found.num_images
        if found.num_tokens is not None:
            self.lengths.append(found.num_tokens)
        for repair in found.repairs:
            self.repairs[found.file, repair] += 1
        if found.problem is not None:
            self.dropped.append(found.problem)
            self.problems[found.file, found.problem.reason] += 1

    def histogram(self) -> list[tuple[int, int]]:
        """Return the number of records by length: the most tokens of each bin, which double, and its records."""
        edges = [_FIRST_EDGE]
        while self.lengths and edges[-1] < max(self.lengths):
            edges.append(2 * edges[-1])
        counts = Counter(next(edge for edge in edges if length <= edge) for length in self.lengths)
        return [(edge, counts[edge]) for edge in edges]

    def quantile(self, share: float) -> int:
        """Return the length that a share of the records does not exceed; 0 without records.

        Args:
            share: From 0 to 1.
        """
        ordered = sorted(self.lengths)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


class _Inspections(Dataset[list[Inspection]]):
    """Chunks of inspected records."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return -(-len(self._examples) // _CHUNK)

    def __getitem__(self, chunk: int) -> list[Inspection]:
        last = min((chunk + 1) * _CHUNK, len(self._examples))
        return [self._examples.inspect(position) for position in range(chunk * _CHUNK, last)]


def checked_examples(config: TrainConfig) -> Examples:
    """Return all records of a run, held-out ones too, as the trainer reads them; no weights are loaded.

    Args:
        config: The run.

    Raises:
        InputError: If a file or the model's configuration cannot be read.
    """
    processor = load_processor(config.model)
    held_out: Sequence[SourceConfig] = () if config.evaluation is None else config.evaluation.sources
    return Examples(
        [open_records(source.path, source.images) for source in (*config.data.sources, *held_out)],
        processor,
        prompt_template=config.data.prompt_template or processor.prompt_template,
        image_aspect_ratio=config.data.image_aspect_ratio,
        max_length=config.data.max_length,
        on_broken="skip",
        on_too_long=config.data.on_too_long,
        rules=config.data.records,
    )


def check_records(
    examples: Examples, num_processes: int, *, report: Callable[[int], None] = lambda done: None
) -> CheckReport:
    """Read, tokenise and decode every record.

    Args:
        examples: The records.
        num_processes: Processes that share the work; 1 works in this one.
        report: Called with the number of records done.
    """
    found = CheckReport()
    done = 0
    for chunk in _chunks(examples, num_processes):
        for inspection in chunk:
            found.add(inspection)
        done += len(chunk)
        report(done)
    return found


def _chunks(examples: Examples, num_processes: int) -> Iterator[list[Inspection]]:
    workers = num_processes if num_processes > 1 else 0
    return iter(DataLoader(_Inspections(examples), batch_size=None, num_workers=workers))
