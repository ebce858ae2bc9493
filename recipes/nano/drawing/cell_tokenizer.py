"""A tokenizer that writes each known thing as the cells of its picture.

A thing has one token for each cell of a square grid over its picture, a background one for each cell of a coarser grid,
a relation or a number one token. So the looks are in the table of the text encoder, and a small denoiser can copy them
by cross-attention. The replacement of words by tokens is part of the file `tokenizer.json`: transformers reads it
without this package. Words that are not known have no token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mgem_agent.tools.vocabulary import Vocabulary

__all__ = ["RELATIONS", "CellGrid", "cell_tokenizer"]

START, END = "<|startoftext|>", "<|endoftext|>"
_SUBJECTS, _CELLS, _WORDS = 0xE000, 0xF000, 0xE800
"""First private-use character of things and places, of their cells, and of relations and numbers."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "one above the other": ("one above the other", "on top of each other"),
    "left of": ("on the left and", "to the left of", "on the left of", "left of"),
    "right of": ("on the right and", "to the right of", "on the right of", "right of"),
    "above": ("on top of", "above", "over"),
    "below": ("underneath", "beneath", "below", "under"),
    "with": ("next to", "beside", "near", "with", "and"),
    "two": ("a pair of", "two"),
    "three": ("three",),
}
"""Relations and numbers, and the words for each."""


@dataclass(frozen=True)
class CellGrid:
    """The size of the tokenizer's grids.

    Args:
        side: Cells in a row, and rows, of a thing's picture.
        place_side: The same of a background.
        max_tokens: Maximum tokens of a caption, with start and end.
    """

    side: int = 12
    place_side: int = 6
    max_tokens: int = 336

    @property
    def num_thing_cells(self) -> int:
        """Tokens of a thing."""
        return self.side**2

    @property
    def num_place_cells(self) -> int:
        """Tokens of a background."""
        return self.place_side**2

    def first_token(self, subject: int, num_things: int) -> int:
        """Return the first token of a thing or place; the tokens of one follow each other.

        Args:
            subject: Its index; places come after things.
            num_things: Number of things.
        """
        places = max(subject - num_things, 0)
        return 2 + (subject - places) * self.num_thing_cells + places * self.num_place_cells


def cell_tokenizer(vocabulary: Vocabulary, grid: CellGrid) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a vocabulary.

    Args:
        vocabulary: The things and places, with their other words.
        grid: Number of cells.
    """
    tokens: dict[str, int] = {START: 0, END: 1}
    spelled: dict[str, str] = {}
    for number, word in enumerate((*vocabulary.things, *vocabulary.places)):
        num = grid.num_thing_cells if number < len(vocabulary.things) else grid.num_place_cells
        cells = [chr(_SUBJECTS + number) + chr(_CELLS + cell) for cell in range(num)]
        for cell in cells:
            tokens[cell] = len(tokens)
        spelled[word.name] = "".join(cells)
    for number in range(len(RELATIONS)):
        tokens[chr(_WORDS + number)] = len(tokens)
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), *_rules(vocabulary, spelled)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(
            f"[{chr(_SUBJECTS)}-{chr(_WORDS - 1)}][{chr(_CELLS)}-{chr(_CELLS + 255)}]|[{chr(_WORDS)}-{chr(_CELLS - 1)}]"
        ),
        behavior="isolated",
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=grid.max_tokens,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def _rules(vocabulary: Vocabulary, spelled: dict[str, str]) -> Iterator[normalizers.Replace]:
    """Yield a replacement for the names of each thing or place; names of more words come first."""
    by_length: dict[tuple[int, str], list[str]] = {}
    taken: set[str] = set()
    names = [(name.lower(), word.name) for word in (*vocabulary.places, *vocabulary.things) for name in _names(word)]
    for name, meant in [*names, *vocabulary.near.items()]:
        if name not in taken:
            taken.add(name)
            by_length.setdefault((len(name.split()), meant), []).append(name)
    for (_, meant), group in sorted(by_length.items(), key=lambda each: -each[0][0]):
        yield normalizers.Replace(_any_of(group), spelled[meant])
    for number, words in enumerate(RELATIONS.values()):
        yield normalizers.Replace(_any_of(words), chr(_WORDS + number))
    yield normalizers.Replace(Regex(f"[^{chr(_SUBJECTS)}-{chr(_CELLS + 255)}]+"), "")


def _names(word: object) -> tuple[str, ...]:
    return (word.name, *word.names, *word.plurals)  # type: ignore[attr-defined]


def _any_of(names: list[str] | tuple[str, ...]) -> Regex:
    longest_first = sorted(names, key=len, reverse=True)
    return Regex(r"(?<![a-z])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![a-z])")
