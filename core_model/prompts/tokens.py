"""Convert between a prompt and its token ids; a prompt is text with a mark `<image>` for each image.

The mark need not be a token of the vocabulary. As in the authors' code, a prompt is split at its marks and **each piece
is tokenised on its own**, so that a sentencepiece tokenizer puts its dummy prefix before every piece: weights trained
that way expect it. The tokenizer's BOS comes before the first piece only, and an EOS, if the tokenizer appends one,
after the last. Each mark becomes the image's id, repeated once for each of its visual tokens.

Decoding is piecewise too, which removes those prefixes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase

from mgem_agent.errors import PromptError

__all__ = [
    "ImageTokens",
    "PromptTokens",
    "add_mark",
    "decode_ids",
    "disarm_dialogue",
    "encode_prompt",
    "special_affixes",
]


@dataclass(frozen=True)
class ImageTokens:
    """The mark and ids of an image in a prompt.

    Args:
        mark: The text that marks an image.
        token_id: The id of one visual token.
        num_tokens: Visual tokens of an image.
    """

    mark: str
    token_id: int
    num_tokens: int


@dataclass(frozen=True)
class PromptTokens:
    """The token ids of a prompt.

    Args:
        input_ids: The ids.
        offsets: Start and end of each token in the prompt, in characters; both are equal for a token that is not
            text of the prompt (BOS, EOS, visual tokens). None unless requested.
    """

    input_ids: list[int]
    offsets: list[tuple[int, int]] | None

    def mask(self, spans: Iterable[tuple[int, int]]) -> list[int]:
        """Return 1 for each token with text in one of the spans, 0 for the others.

        Args:
            spans: Start and end of each, in characters of the prompt, in order.
        """
        if self.offsets is None:
            raise PromptError("The prompt was encoded without offsets. Encode it with offsets to find spans in it.")
        spans = list(spans)
        return [
            int(start < end and any(start < last and end > first for first, last in spans))
            for start, end in self.offsets
        ]


def encode_prompt(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    image_tokens: ImageTokens,
    *,
    add_special_tokens: bool = True,
    with_offsets: bool = False,
) -> PromptTokens:
    """Tokenise a prompt piece by piece.

    Args:
        text: The prompt, with a mark for each image.
        tokenizer: The language model's tokenizer.
        image_tokens: The mark and ids of an image.
        add_special_tokens: Whether the tokenizer's BOS and EOS are added.
        with_offsets: Whether to return the span of each token in the prompt.

    Raises:
        PromptError: If the text holds the token whose id is reserved for visual tokens, or the tokenizer does not
            support offsets.
    """
    if with_offsets and not tokenizer.is_fast:
        raise PromptError(
            f"The tokenizer {type(tokenizer).__name__!r} cannot map tokens to text, so the assistant's "
            f"tokens cannot be marked. Use a tokenizer of the 'tokenizers' library (a folder with tokenizer.json)."
        )
    prefix, suffix = special_affixes(tokenizer) if add_special_tokens else ([], [])
    ids, offsets = list(prefix), [(0, 0)] * len(prefix)
    start = 0
    for index, piece in enumerate(text.split(image_tokens.mark)):
        if index:
            ids += [image_tokens.token_id] * image_tokens.num_tokens
            offsets += [(start, start)] * image_tokens.num_tokens
            start += len(image_tokens.mark)
        encoded = tokenizer(piece, add_special_tokens=False, return_offsets_mapping=with_offsets)
        if image_tokens.token_id in encoded["input_ids"]:
            token = tokenizer.convert_ids_to_tokens(image_tokens.token_id)
            raise PromptError(
                f"The prompt holds the token {token!r}, whose id {image_tokens.token_id} this model reserves for "
                f"visual tokens. Remove it from the text, or choose another image_token_id for processor and model."
            )
        ids += encoded["input_ids"]
        if with_offsets:
            offsets += [(start + first, start + last) for first, last in encoded["offset_mapping"]]
        start += len(piece)
    ids += suffix
    offsets += [(start, start)] * len(suffix)
    return PromptTokens(ids, offsets if with_offsets else None)


def disarm_special_tokens(text: str, tokenizer: PreTrainedTokenizerBase, mark: str = "<image>") -> str:
    """Insert a space after the first character of special tokens, so that they become plain text.

    Otherwise, a user who types `<|im_end|>` or `</s>` could end their turn and write as the system. The text stays
    readable.

    Args:
        text: The text of a message.
        tokenizer: The language model's tokenizer.
        mark: The mark of an image, which stays: rendering removes it, also where the tokenizer has it as a token.
    """
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    special = {*added, *tokenizer.all_special_tokens} - {mark}
    found = [token for token in special if len(token) > 1 and token in text]
    if not found:
        return text
    pattern = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
    return re.sub(pattern, lambda match: f"{match[0][0]} {match[0][1:]}", text)


def disarm_dialogue(dialogue: Any, tokenizer: PreTrainedTokenizerBase, mark: str = "<image>") -> Any:
    """Return a dialogue with the special tokens in its texts disarmed; see `disarm_special_tokens`.

    Args:
        dialogue: A list of messages; anything else is returned unchanged.
        tokenizer: The language model's tokenizer.
        mark: The mark of an image.
    """
    if not isinstance(dialogue, (list, tuple)):
        return dialogue

    def text_of(value: Any) -> Any:
        return disarm_special_tokens(value, tokenizer, mark) if isinstance(value, str) else value

    def part_of(part: Any) -> Any:
        if isinstance(part, Mapping) and part.get("type") == "text":
            return {**part, "text": text_of(part.get("text"))}
        return text_of(part)

    def message_of(message: Any) -> Any:
        if not isinstance(message, Mapping) or "content" not in message:
            return message
        content = message["content"]
        parts = list(map(part_of, content)) if isinstance(content, (list, tuple)) else text_of(content)
        return {**message, "content": parts}

    return list(map(message_of, dialogue))


def add_mark(tokenizer: PreTrainedTokenizerBase, mark: str) -> int:
    """Add the mark of an image to a tokenizer as a special token, unless it has it, and return its id.

    Args:
        tokenizer: The language model's tokenizer.
        mark: The text that marks an image.
    """
    tokenizer.add_tokens([AddedToken(mark, special=True, normalized=False)], special_tokens=True)
    id_: Any = tokenizer.convert_tokens_to_ids(mark)
    return int(id_)


def special_affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer adds before and after a text."""
    bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    if not bare:  # a vocabulary without this character
        num_suffix = sum(1 for _ in itertools.takewhile(lambda id_: id_ == tokenizer.eos_token_id, reversed(full)))
        return full[: len(full) - num_suffix], full[len(full) - num_suffix :]
    start = next(index for index in range(len(full)) if full[index : index + len(bare)] == bare)
    return full[:start], full[start + len(bare) :]


def decode_ids(
    ids: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    image_tokens: ImageTokens,
    *,
    skip_special_tokens: bool = False,
    **options: Any,
) -> str:
    """Turn token ids back into text.

    Args:
        ids: Token ids. Those outside the vocabulary, such as the -100 of labels, are skipped.
        tokenizer: The language model's tokenizer.
        image_tokens: The mark and ids of an image; each image's ids become one mark.
        skip_special_tokens: Whether to skip special tokens, including the marks.
        **options: Further options of the tokenizer's `decode`.
    """
    size = len(tokenizer)
    pieces: list[str] = []
    for is_image, group in itertools.groupby(ids, key=lambda id_: id_ == image_tokens.token_id):
        run = list(group)
        if is_image:
            # Two images may be adjacent, and the last may be truncated.
            count = 0 if skip_special_tokens else -(-len(run) // image_tokens.num_tokens)
            pieces.append(image_tokens.mark * count)
        else:
            known = [id_ for id_ in run if 0 <= id_ < size]
            pieces.append(str(tokenizer.decode(known, skip_special_tokens=skip_special_tokens, **options)))
    return "".join(pieces)
