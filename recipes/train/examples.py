"""Batches of records: tokens, targets and pixels, padded on the right or packed into one row.

The targets are the tokens that the assistant writes. If the configuration allows it, a record that cannot be used is
counted and replaced by a random record of the same source. The draw depends only on the seed, the step and the record,
so every step is complete, a resumed run repeats it, and no record takes the place of all that are missing before it.

Shapes: b records, l tokens of the longest record, i images of all records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.errors import ImageError, InputError, MgemError, StorageError
from mgem_agent.recipes.train.encoding import EncodedRecord, RecordEncoder, RecordRules
from mgem_agent.recipes.train.records import (
    CHARS_PER_TOKEN,
    BrokenRecordError,
    RecordSource,
    StoredRecord,
    summarise,
)

__all__ = ["NO_TARGET", "Batch", "BrokenRecord", "Examples", "Inspection"]

NO_TARGET = -100
_MAX_DRAWS = 1000


@dataclass(frozen=True)
class BrokenRecord:
    """A record that was not used, or that was repaired.

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
            Packed: one row of all tokens, and `position_ids` (1, l), which start at 0 with each record.
        num_targets: Number of target tokens.
        num_tokens: Number of tokens without padding.
        broken: Records that were replaced.
        repaired: Records whose marks were repaired.
    """

    inputs: dict[str, Tensor]
    num_targets: int
    num_tokens: int
    broken: tuple[BrokenRecord, ...] = ()
    repaired: tuple[BrokenRecord, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found about a record.

    Args:
        file: Its file.
        position: Its index in the file, from 0.
        num_tokens: Its tokens, visual tokens included; None if it cannot be tokenised.
        num_images: Its pictures.
        repairs: What was wrong with the marks of its pictures.
        problem: Why it cannot be used; None if it can.
    """

    file: str
    position: int
    num_tokens: int | None
    num_images: int
    repairs: tuple[str, ...]
    problem: BrokenRecord | None


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
        rules: How records are read: `repaired`, or `faithful` to the authors.
        seed: Seed of the replacements.
        check_first: Whether `sizes` also checks every record, except the content of its pictures. Records of shards
            were checked when they were packed.
        packing: Whether the records of a batch are one row.

    Attributes:
        files: The files.
        problems: Number of records that the check found unusable, by file and reason.
    """

    def __init__(
        self,
        files: Sequence[RecordSource],
        processor: MiniGeminiProcessor,
        *,
        prompt_template: str,
        image_aspect_ratio: str,
        max_length: int,
        on_broken: Literal["error", "skip"],
        on_too_long: Literal["cut", "broken"],
        rules: RecordRules = "repaired",
        seed: int = 0,
        check_first: bool = True,
        packing: bool = False,
    ) -> None:
        self.files = tuple(files)
        self.problems: Counter[tuple[str, str]] = Counter()
        self._encoder = RecordEncoder(processor, prompt_template, rules)
        self._seed = seed
        self._check_first = check_first
        self._packing = packing
        self._usable: list[np.ndarray | int] = [len(file) for file in self.files]  # a number: all are
        self._processor = processor
        self._aspect_ratio = image_aspect_ratio
        self._max_length = max_length
        self._on_broken = on_broken
        self._on_too_long = on_too_long
        pad = processor.tokenizer.pad_token_id
        self._pad_id = 0 if pad is None or pad == processor.image_token_id else int(pad)

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def sizes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the approximate number of tokens, the number of pictures and the file index of every record.

        What the index of a file says is not read from the file. Records that are checked are read.

        Raises:
            InputError: If a record cannot be used and `on_broken` is `error`, or a file has no usable record.
        """
        self.problems.clear()
        found = [self._sizes(owner, file) for owner, file in enumerate(self.files)]
        chars, images = (np.concatenate(columns) for columns in zip(*found, strict=True))
        owners = np.repeat(np.arange(len(self.files), dtype=np.int32), [len(file) for file in self.files])
        return chars // CHARS_PER_TOKEN + images * self._processor.num_image_tokens, images, owners

    def _sizes(self, owner: int, file: RecordSource) -> tuple[np.ndarray, np.ndarray]:
        """Return the characters and pictures of the records of a file, and note which can be used."""
        usable, last = np.ones(len(file), bool), None
        problems: Iterable[tuple[int, MgemError]]
        is_known = file.index is not None and (file.is_checked or not self._check_first)
        if file.index is not None and is_known:
            chars, images = file.index.num_chars.astype(np.int32), file.index.num_images.astype(np.int32)
            problems = ((place, BrokenRecordError(*problem)) for place, problem in file.index.problems.items())
        else:
            chars, images = np.zeros((2, len(file)), np.int32)
            problems = self._checked(file, chars, images)
        for place, error in problems:
            last = self._problem(file, place, error)
            self.problems[last.file, last.reason] += 1
            usable[place] = False
        if last is not None and not usable.any():
            raise InputError(
                f"No record of {str(file.path)!r} can be used; the last error: {last.message}. Check the file and "
                "its folder of pictures, or remove it from data.sources."
            )
        self._usable[owner] = len(file) if last is None else np.flatnonzero(usable)
        return chars, images

    def _checked(self, file: RecordSource, chars: np.ndarray, images: np.ndarray) -> Iterator[tuple[int, MgemError]]:
        """Read all records of a file, fill in their sizes, and yield those that cannot be used."""
        for place in range(len(file)):
            record: Any = None
            try:
                (stored,) = file.read([place])
                record = stored.parse()
                if self._check_first:
                    self._encoder.check(record, stored.images)
            except MgemError as error:
                yield place, error
            summary = summarise(record)
            chars[place], images[place] = summary.num_chars, summary.num_images

    def inspect(self, position: int) -> Inspection:
        """Read, tokenise and decode a record completely, without making pixels of it.

        Args:
            position: Index over all files.
        """
        _, file, place = self._locate(position)
        num_tokens: int | None = None
        num_images, repairs = 0, tuple[str, ...]()
        problem = None
        try:
            (stored,) = file.read([place])
            encoded = self._encoder.encode(stored.parse(), stored.images)
            num_tokens, num_images, repairs = len(encoded.input_ids), len(encoded.pictures), encoded.repairs
            self._fitted(encoded)
            for picture in encoded.pictures:
                load_image(picture)
        except StorageError:  # the record may be in order
            raise
        except MgemError as error:
            problem = BrokenRecord(str(file.path), place, _reason(error), str(error))
        return Inspection(str(file.path), place, num_tokens, num_images, repairs, problem)

    def batch(self, positions: Sequence[int], step: int = 0) -> Batch:
        """Return some records as a batch.

        Args:
            positions: Indices over all files.
            step: The step, on which the replacements of unusable records depend.

        Raises:
            InputError: If a record cannot be used and `on_broken` is `error`, or if no record can be used.
        """
        broken: list[BrokenRecord] = []
        repaired: list[BrokenRecord] = []
        examples = [
            self._example(position, stored, step, broken, repaired)
            for position, stored in zip(positions, self._read(positions), strict=True)
        ]
        inputs = _packed(examples) if self._packing else _padded(examples, self._pad_id)
        with_images = [example.pixels for example in examples if example.pixels]
        for name in with_images[0] if with_images else ():
            inputs[name] = torch.cat([pixels[name] for pixels in with_images])
        num_targets = int((inputs["labels"][:, 1:] != NO_TARGET).sum())
        return Batch(inputs, num_targets, int(inputs["attention_mask"].sum()), tuple(broken), tuple(repaired))

    def _read(self, positions: Sequence[int]) -> list[StoredRecord]:
        """Read records, those of one file at once, so that a remote storage is asked for them together."""
        found: list[StoredRecord | None] = [None] * len(positions)
        places = [self._locate(position) for position in positions]
        for owner, file in enumerate(self.files):
            own = [index for index, place in enumerate(places) if place[0] == owner]
            if own:
                for index, stored in zip(own, file.read([places[index][2] for index in own]), strict=True):
                    found[index] = stored
        return [stored for stored in found if stored is not None]

    def _example(
        self,
        position: int,
        stored: StoredRecord,
        step: int,
        broken: list[BrokenRecord],
        repaired: list[BrokenRecord],
    ) -> _Example:
        owner, file, place = self._locate(position)
        draws = np.random.default_rng([self._seed, step, owner, place])
        wanted = place
        for _ in range(_MAX_DRAWS):
            try:
                encoded = self._encoder.encode(stored.parse(), stored.images)
                example = self._with_pixels(self._fitted(encoded), encoded)
            except MgemError as error:
                broken.append(self._problem(file, place, error))
                place = int(draws.choice(self._usable[owner]))
                (stored,) = file.read([place])
                continue
            for repair in encoded.repairs:
                repaired.append(BrokenRecord(str(file.path), place, repair, "its marks were repaired"))
            return example
        raise InputError(
            f"None of {_MAX_DRAWS:,} random records of {str(file.path)!r} can be used in place of record {wanted}; the "
            f"last error: {broken[-1].message}. List what is wrong with: mgem data check"
        )

    def _problem(self, file: RecordSource, place: int, error: MgemError) -> BrokenRecord:
        """Describe a record that cannot be used, or raise if it must not be skipped."""
        if isinstance(error, StorageError):  # the record may be in order
            raise error
        reason = _reason(error)
        if self._on_broken == "error":
            raise InputError(
                f"Record {place} of {str(file.path)!r} cannot be used ({reason}): {error}\n"
                f"Correct it, or skip such records with data.on_broken=skip. List all with: mgem data check"
            ) from error
        return BrokenRecord(str(file.path), place, reason, str(error))

    def _locate(self, position: int) -> tuple[int, RecordSource, int]:
        for owner, file in enumerate(self.files):
            if position < len(file):
                return owner, file, position
            position -= len(file)
        raise IndexError(position)

    def _fitted(self, encoded: EncodedRecord) -> _Example:
        """Return the tokens and labels of a record, cut to the maximum length if that is allowed."""
        ids, mask = encoded.input_ids, encoded.is_target
        if len(ids) > self._max_length:
            image_id = self._processor.image_token_id
            if self._on_too_long == "broken" or image_id in ids[self._max_length :]:
                raise BrokenRecordError("too long", f"it has {len(ids)} tokens; data.max_length is {self._max_length}")
            ids, mask = ids[: self._max_length], mask[: self._max_length]
        labels = [token if is_target else NO_TARGET for token, is_target in zip(ids, mask, strict=True)]
        if all(label == NO_TARGET for label in labels[1:]):
            raise BrokenRecordError("nothing to learn", "no token of it belongs to an answer")
        return _Example(ids, labels)

    def _with_pixels(self, example: _Example, encoded: EncodedRecord) -> _Example:
        if encoded.pictures:
            features = self._processor(
                images=list(encoded.pictures), return_tensors="pt", image_aspect_ratio=self._aspect_ratio
            )
            example.pixels = {name: features[name] for name in features if name.endswith("pixel_values")}
        return example


def _padded(examples: Sequence[_Example], pad_id: int) -> dict[str, Tensor]:
    """Return one row for each example, padded on the right."""
    width = max(len(example.input_ids) for example in examples)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    return {
        "input_ids": padded([example.input_ids for example in examples], pad_id),
        "attention_mask": padded([[1] * len(example.input_ids) for example in examples], 0),
        "labels": padded([example.labels for example in examples], NO_TARGET),
    }


def _packed(examples: Sequence[_Example]) -> dict[str, Tensor]:
    """Return all examples in one row.

    Their positions start anew, which tells transformers where attention ends: it makes a block-diagonal mask for SDPA,
    and gives flash attention the lengths of the examples.
    """
    ids = [token for example in examples for token in example.input_ids]
    labels = [label for example in examples for label in (NO_TARGET, *example.labels[1:])]  # the first follows another
    positions = [position for example in examples for position in range(len(example.input_ids))]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([labels]),
    }


def _reason(error: MgemError) -> str:
    """Return the category of a problem."""
    if isinstance(error, BrokenRecordError):
        return error.reason
    return "unreadable picture" if isinstance(error, ImageError) else "unusable"
