"""Reads visual tokens: which things a picture shows, and where, in which colour and how many, as words for the LLM.

A small language model copies a word more easily than it finds a direction in an embedding. So a model may have a
reader: a small transformer that sees the visual tokens of a picture and names what each patch shows, with a few facts.
Patches that show the same are one entry, and the words of all entries follow the visual tokens in the LLM's input, as
embeddings of ordinary tokens. A picture has a fixed number of them, so prompts, caches and servers need not know.

The paper's training adds text that an OCR program found to the question (section 4.1, "Reference OCR token"). Here the
text comes from the model's own visual tokens, and names everything that it was trained on.

Shapes: i images; n = g² visual tokens of an image, g a side; c channels of the LR encoder; d hidden size of the LLM; V
labels; w words of a fact; k tokens of a reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgem_agent.errors import InputError

__all__ = ["BACKGROUND", "PRINTED", "THING", "ReaderOutput", "VisualReader", "VisualReaderConfig"]

BACKGROUND, THING, PRINTED = 0, 1, 2
"""Kinds of labels: where everything is, a thing, and printed text."""

_LEAST_OF_THING = 0.9
"""Least sum of the probabilities of a thing's patches: less is mostly the edge of another thing."""
_LEAST_OF_PRINT = 0.3
"""The same for printed text, which may be smaller than a patch."""
_LEAST_OF_LARGEST = 0.25
"""Least sum of a thing's probabilities, as a fraction of that of the largest thing: less is mostly a part of that."""


@dataclass(frozen=True, kw_only=True)
class VisualReaderConfig:
    """Sizes of a reader, and what it knows.

    Attributes:
        num_tokens: Tokens of a reading: k.
        num_labels: Labels of patches: V.
        label_length: Most tokens of a label.
        facts: Names of the facts, in the order of an entry.
        fact_words: The number of words of each fact: w.
        fact_length: Most tokens of a fact's word.
        places: Facts that say where a thing is; they are left out if there are several of it.
        least_confidence: The confidence from which a picture is one of those that it was trained on. Of any other it
            says the label `unknown`, and nothing else.
        unknown: That label.
        unknown_answer: The answer to a question about such a picture; without one the LLM answers freely.
        hidden_size: Channels of the transformer.
        num_layers: Its layers.
        num_heads: Its attention heads.
    """

    num_tokens: int
    num_labels: int
    label_length: int
    facts: Sequence[str]
    fact_words: Sequence[int]
    fact_length: int
    places: Sequence[str] = ()
    least_confidence: float = 0.0
    unknown: int = 0
    unknown_answer: str = ""
    hidden_size: int = 192
    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        for name in ("num_tokens", "num_labels", "label_length", "fact_length", "hidden_size", "num_heads"):
            if getattr(self, name) < 1:
                raise InputError(f"reader_config: {name} must be at least 1, got {getattr(self, name)}.")
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"reader_config: hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}."
            )
        if len(self.facts) != len(self.fact_words):
            raise InputError(f"reader_config: {len(self.facts)} facts have {len(self.fact_words)} fact_words.")
        if unknown := sorted(set(self.places) - set(self.facts)):
            raise InputError(f"reader_config: places has {unknown}, which are not among the facts {list(self.facts)}.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> VisualReaderConfig:
        """Return it from the dictionary in a `config.json`.

        Args:
            values: The dictionary.

        Raises:
            InputError: If a field is missing, unknown or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"reader_config cannot be used: {error}. Export the model again.") from error


class ReaderOutput(NamedTuple):
    """What a reader predicts: labels (i, n, V), and for each fact (i, n, 1 + w), the first for none; all logits."""

    labels: Tensor
    facts: list[Tensor]


@dataclass
class _Entry:
    """Patches that show the same: their label, and where they are in raster order."""

    label: int
    patches: list[int] = field(default_factory=list)


class VisualReader(nn.Module):
    """Names what the patches of a picture show, and writes it down as tokens of the LLM.

    A label's logit is the cosine similarity of the projected visual token with the label's embedding, as in the recipe
    `visual_words` that trains the projector, plus what the transformer finds by comparing patches.

    Args:
        config: Its sizes.
        num_patches: Visual tokens of an image: n.
        num_channels: Channels of the LR encoder: c.
        text_dim: Hidden size of the LLM: d.

    Attributes:
        label_ids: (V, label_length) token ids of each label, padded with -1.
        label_kinds: (V,) `BACKGROUND`, `THING` or `PRINTED`.
        label_embeds: (V, d) embeddings that visual tokens of a label learned to match.
        fact_ids: (sum of all w, fact_length) token ids of the words of all facts in order, padded with -1.
        mark_ids: (2,) token ids of what ends an entry, and of what fills the rest.
    """

    label_ids: Tensor
    label_kinds: Tensor
    label_embeds: Tensor
    fact_ids: Tensor
    mark_ids: Tensor

    def __init__(self, config: VisualReaderConfig, num_patches: int, num_channels: int, text_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.input_norm = nn.LayerNorm(num_channels)
        self.input_proj = nn.Linear(num_channels, width)
        self.position_embeds = nn.Embedding(num_patches, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.num_heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.num_layers)
        )
        self.output_norm = nn.LayerNorm(width)
        self.label_head = nn.Linear(width, config.num_labels)
        self.fact_head = nn.Linear(width, sum(1 + words for words in config.fact_words))
        self.similarity_scale = nn.Parameter(torch.full((), 20.0))
        self.register_buffer("label_ids", _no_ids(config.num_labels, config.label_length))
        self.register_buffer("label_kinds", torch.zeros(config.num_labels, dtype=torch.long))
        self.register_buffer("label_embeds", torch.zeros(config.num_labels, text_dim))
        self.register_buffer("fact_ids", _no_ids(sum(config.fact_words), config.fact_length))
        self.register_buffer("mark_ids", torch.zeros(2, dtype=torch.long))

    def forward(self, tokens: Tensor, features: Tensor) -> ReaderOutput:
        """Name what each patch shows.

        Args:
            tokens: (i, n, c) visual tokens before the projector.
            features: (i, n, d) the same after it.
        """
        hidden = self.input_proj(self.input_norm(tokens)) + self.position_embeds.weight
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.output_norm(hidden)
        middle = self.label_embeds.mean(0)
        directions = F.normalize(self.label_embeds - middle, dim=-1).to(features.dtype)
        near = F.normalize(features - middle.to(features.dtype), dim=-1) @ directions.T
        facts = self.fact_head(hidden).split([1 + words for words in self.config.fact_words], -1)
        return ReaderOutput(self.label_head(hidden) + self.similarity_scale * near, list(facts))

    @staticmethod
    def confidence(output: ReaderOutput) -> Tensor:
        """Return (i,) the mean, over patches, of the probability of the most probable label: low for other pictures.

        Args:
            output: What it predicts.
        """
        return output.labels.float().softmax(-1).amax(-1).mean(-1)

    @torch.no_grad()
    def read(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Return (i, k) the token ids of the reading of each image: the background, then the entries in reading order.

        An entry is a label and its facts; those that do not fit are left out.

        Args:
            tokens: As for :meth:`forward`.
            features: As for :meth:`forward`.
        """
        output = self(tokens, features)
        is_known = (self.confidence(output) >= self.config.least_confidence).tolist()
        labels = output.labels.float().softmax(-1).cpu()
        facts = [fact.float().softmax(-1).cpu() for fact in output.facts]
        unknown = self.unknown_reading().tolist()
        rows = [
            self.written(labels[image], [fact[image] for fact in facts]) if known else unknown
            for image, known in enumerate(is_known)
        ]
        return torch.tensor(rows, device=tokens.device)

    def written(self, labels: Tensor, facts: Sequence[Tensor]) -> list[int]:
        """Return the k token ids of the reading of one image.

        Args:
            labels: (n, V) probabilities of the labels.
            facts: (n, 1 + w) those of each fact, the first for none.
        """
        kinds = self.label_kinds.tolist()
        return self._filled(
            [
                [*self._label_words(entry.label), *self._fact_words(entry, facts, kinds[entry.label])]
                for entry in self._entries(labels, kinds)
            ]
        )

    def unknown_reading(self) -> Tensor:
        """Return (k,) the token ids of the reading of a picture that it does not know."""
        return torch.tensor(self._filled([self._label_words(self.config.unknown)]), device=self.mark_ids.device)

    def _filled(self, entries: Sequence[Sequence[int]]) -> list[int]:
        """Return a reading from the tokens of its entries."""
        end, blank = self.mark_ids.tolist()
        length = self.config.num_tokens
        ids: list[int] = []
        for entry in entries:
            words = [*entry, end]
            if len(ids) + len(words) > length:
                break
            ids += words
        return ids + [blank] * (length - len(ids))

    def _entries(self, labels: Tensor, kinds: Sequence[int]) -> list[_Entry]:
        """Return the background, and each thing and printed text that patches show, in reading order."""
        shown = labels.argmax(-1).tolist()
        side = round(len(shown) ** 0.5)
        is_background = torch.tensor([kind == BACKGROUND for kind in kinds])
        everywhere = int(labels.sum(0).masked_fill(~is_background, -1).argmax())
        ground = [place for place, label in enumerate(shown) if kinds[label] == BACKGROUND]
        entries: dict[int, _Entry] = {}
        groups = [(shown[patches[0]], patches) for patches in _components(shown, side)]
        sums = [float(labels[patches, label].sum()) for label, patches in groups]
        of_things = [total for (label, _), total in zip(groups, sums, strict=True) if kinds[label] == THING]
        largest = max(of_things, default=0.0)
        least = {PRINTED: _LEAST_OF_PRINT, THING: max(_LEAST_OF_THING, _LEAST_OF_LARGEST * largest)}
        for (label, patches), total in zip(groups, sums, strict=True):
            if total >= least.get(kinds[label], float("inf")):
                entries.setdefault(label, _Entry(label)).patches.extend(patches)
        found = sorted(entries.values(), key=lambda entry: _reading_order(entry.patches, side))
        return [_Entry(everywhere, ground or list(range(len(shown)))), *found]

    def _label_words(self, label: int) -> list[int]:
        return [token for token in self.label_ids[label].tolist() if token >= 0]

    def _fact_words(self, entry: _Entry, facts: Sequence[Tensor], kind: int) -> list[int]:
        """Return the tokens of an entry's facts, each the most probable over its patches."""
        chosen = [int(fact[entry.patches].mean(0).argmax()) - 1 for fact in facts]
        names = list(self.config.facts)
        is_one = "number" not in names or chosen[names.index("number")] <= 0
        ids: list[int] = []
        first = 0
        for name, words, word in zip(names, self.config.fact_words, chosen, strict=True):
            if word >= 0 and (is_one or kind != THING or name not in self.config.places):
                ids += [token for token in self.fact_ids[first + word].tolist() if token >= 0]
            first += words
        return ids


def _no_ids(num: int, length: int) -> Tensor:
    return torch.full((num, length), -1, dtype=torch.long)


def _components(shown: Sequence[int], side: int) -> list[list[int]]:
    """Return the groups of adjacent patches with the same label, each in raster order of its first patch."""
    seen: set[int] = set()
    groups = []
    for start in range(len(shown)):
        if start in seen:
            continue
        seen.add(start)
        group, open_places = [], [start]
        while open_places:
            place = open_places.pop()
            group.append(place)
            row, column = divmod(place, side)
            beside = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            for other in (r * side + c for r, c in beside if 0 <= r < side and 0 <= c < side):
                if other not in seen and shown[other] == shown[start]:
                    seen.add(other)
                    open_places.append(other)
        groups.append(group)
    return groups


def _reading_order(patches: Sequence[int], side: int) -> tuple[int, float]:
    """Return a key that sorts from top to bottom, and from left to right within two rows of patches."""
    row = sum(place // side for place in patches) / len(patches)
    column = sum(place % side for place in patches) / len(patches)
    return int(row // 2), column
