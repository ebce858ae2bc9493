"""Batches of records: tokens, targets and pixels, padded on the right.

The targets are the tokens that the assistant writes, as the processor marks them. If the configuration allows it, a
record that cannot be used is counted and replaced by the next usable one. So every step is complete, and the same data
always gives the same step.

Shapes: b records, l tokens of the longest record, i images of all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.errors import ImageError, InputError, MgemError
from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.records import BrokenRecordError, RecordFile, dialogue_of, summarise

__all__ = ["NO_TARGET", "Batch", "BrokenRecord", "Examples", "StepBatches"]

NO_TARGET = -100
_MAX_REPLACEMENTS = 1000


@dataclass(frozen=True)
class BrokenRecord:
    """A record that was not used.

    Args:
        file: Its file.
        position: Its index in the file, from 0.
        reason: A short category, for counting.
        message: What is wrong.
    """

    file: str
    position: int
    reason: str
    message: str


@dataclass(frozen=True)
class Batch:
    """Inputs of the model for some records.

    Args:
        inputs: `input_ids`, `attention_mask` and `labels`, all (b, l), the latter -100 at
            tokens without loss; with images also `pixel_values` (i, 3, s, s) and `high_res_pixel_values` (i, 3, S, S).
        num_targets: Number of target tokens.
        num_tokens: Number of tokens without padding.
        broken: Records that were skipped.
    """

    inputs: dict[str, Tensor]
    num_targets: int
    num_tokens: int
    broken: tuple[BrokenRecord, ...] = ()


@dataclass
class _Example:
    input_ids: list[int]
    labels: list[int]
    pixels: dict[str, Tensor] = field(default_factory=dict)


class Examples:
    """Records of several files as examples, by index over all files.

    Args:
        files: The files.
        processor: Renders and tokenises dialogues, and reads pictures.
        prompt_template: Dialogue format.
        image_aspect_ratio: How pictures become square.
        max_length: Maximum tokens of an example.
        on_broken: `error` or `skip` for a record that cannot be used.
        on_too_long: `cut` truncates an example of too many tokens; `broken` treats it as unusable.
    """

    def __init__(
        self,
        files: Sequence[RecordFile],
        processor: MiniGeminiProcessor,
        *,
        prompt_template: str,
        image_aspect_ratio: str,
        max_length: int,
        on_broken: Literal["error", "skip"],
        on_too_long: Literal["cut", "broken"],
    ) -> None:
        self.files = tuple(files)
        self._processor = processor
        self._template = prompt_template
        self._aspect_ratio = image_aspect_ratio
        self._max_length = max_length
        self._on_broken = on_broken
        self._on_too_long = on_too_long
        pad = processor.tokenizer.pad_token_id
        self._pad_id = 0 if pad is None or pad == processor.image_token_id else int(pad)

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def sizes(self) -> tuple[list[int], list[int], list[int]]:
        """Return the approximate number of tokens, the number of pictures and the file index of every record."""
        lengths, images, owners = [], [], []
        for owner, file in enumerate(self.files):
            for position in range(len(file)):
                try:
                    summary = summarise(file[position])
                except BrokenRecordError:
                    summary = summarise(None)
                lengths.append(summary.num_text_tokens + summary.num_images * self._processor.num_image_tokens)
                images.append(summary.num_images)
                owners.append(owner)
        return lengths, images, owners

    def batch(self, positions: Sequence[int]) -> Batch:
        """Return some records as a batch.

        Args:
            positions: Indices over all files.

        Raises:
            InputError: If a record cannot be used and `on_broken` is `error`, or if no record can be used.
        """
        broken: list[BrokenRecord] = []
        examples = [self._example(position, broken) for position in positions]
        width = max(len(example.input_ids) for example in examples)

        def padded(rows: list[list[int]], value: int) -> Tensor:
            return torch.tensor([row + [value] * (width - len(row)) for row in rows])

        inputs = {
            "input_ids": padded([example.input_ids for example in examples], self._pad_id),
            "attention_mask": padded([[1] * len(example.input_ids) for example in examples], 0),
            "labels": padded([example.labels for example in examples], NO_TARGET),
        }
        with_images = [example.pixels for example in examples if example.pixels]
        for name in with_images[0] if with_images else ():
            inputs[name] = torch.cat([pixels[name] for pixels in with_images])
        num_targets = int((inputs["labels"][:, 1:] != NO_TARGET).sum())
        return Batch(inputs, num_targets, int(inputs["attention_mask"].sum()), tuple(broken))

    def _example(self, position: int, broken: list[BrokenRecord]) -> _Example:
        for offset in range(min(len(self), _MAX_REPLACEMENTS)):
            file, place = self._locate((position + offset) % len(self))
            try:
                return self._encode(file[place], file)
            except MgemError as error:
                reason = error.reason if isinstance(error, BrokenRecordError) else "unusable"
                if isinstance(error, ImageError):
                    reason = "unreadable picture"
                if self._on_broken == "error":
                    raise InputError(
                        f"Record {place} of {str(file.path)!r} cannot be used ({reason}): {error}\n"
                        f"Correct it, or skip such records with data.on_broken=skip."
                    ) from error
                broken.append(BrokenRecord(str(file.path), place, reason, str(error)))
        raise InputError(
            f"No usable record was found; the last error: {broken[-1].message}. Check the files of data.sources."
        )

    def _locate(self, position: int) -> tuple[RecordFile, int]:
        for file in self.files:
            if position < len(file):
                return file, position
            position -= len(file)
        raise IndexError(position)

    def _encode(self, record: Any, file: RecordFile) -> _Example:
        features = self._processor.apply_chat_template(
            [dialogue_of(record, file.images)],
            self._template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            image_aspect_ratio=self._aspect_ratio,
        )
        ids, mask = features["input_ids"][0].tolist(), features["assistant_masks"][0].tolist()
        if len(ids) > self._max_length:
            image_id = self._processor.image_token_id
            if self._on_too_long == "broken" or image_id in ids[self._max_length :]:
                raise BrokenRecordError("too long", f"it has {len(ids)} tokens; data.max_length is {self._max_length}")
            ids, mask = ids[: self._max_length], mask[: self._max_length]
        labels = [token if is_target else NO_TARGET for token, is_target in zip(ids, mask, strict=True)]
        if all(label == NO_TARGET for label in labels[1:]):
            raise BrokenRecordError("nothing to learn", "no token of it belongs to an answer")
        pixels = {name: features[name] for name in ("pixel_values", "high_res_pixel_values") if name in features}
        return _Example(ids, labels, pixels)


class StepBatches(Dataset[list[Batch]]):
    """The micro-batches of each step for one process, as a data set for a data loader.

    Args:
        examples: The records.
        plan: The records of each step.
        process: Index of the process.
        num_processes: Number of processes.
        micro_batch: Records of a micro-batch.
    """

    def __init__(
        self, examples: Examples, plan: BatchPlan, *, process: int, num_processes: int, micro_batch: int
    ) -> None:
        self._examples = examples
        self._plan = plan
        self._share = (process, num_processes, micro_batch)

    def __getitem__(self, step: int) -> list[Batch]:
        return [self._examples.batch(positions) for positions in self._plan.share(step, *self._share)]

    def loader(self, first: int, last: int, num_workers: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each step from `first` up to, not including, `last`.

        Args:
            first: The first step.
            last: The step to stop before.
            num_workers: Processes that load ahead; 0 loads in this one.
        """
        loader = torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=range(first, last),
            num_workers=num_workers,
            # Its own generator, so that a new loader does not advance the random state of the training.
            generator=torch.Generator(),
            persistent_workers=False,
        )
        return iter(loader)
