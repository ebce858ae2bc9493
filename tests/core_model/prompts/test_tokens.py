"""Tests of tokenising prompts piece by piece, against a slow second implementation of the authors' rule."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model.prompts.tokens import (
    ImageTokens,
    add_mark,
    decode_ids,
    disarm_special_tokens,
    encode_prompt,
)
from mgem_agent.errors import PromptError

LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:?!<>|/_[]\n"
SPECIAL = ["<s>", "</s>", "<end_of_turn>"]
IMAGE = ImageTokens("<image>", 999, 3)


def wrap(backend: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    if template:
        ids = [(token, backend.token_to_id(token)) for token in SPECIAL]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_level(template: str | None = "<s> $A") -> PreTrainedTokenizerFast:
    words = ["<unk>", *SPECIAL, "Q1", "Q2", "A1", "A2", "USER", "ASSISTANT", ":", "what", "is", "this", "?"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrap(backend, template)


def sentencepiece(scheme: str = "always") -> PreTrainedTokenizerFast:
    """Like LLaMA's: a dummy prefix before a text, and BOS."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", *SPECIAL, *LETTERS, "▁a", "▁th", "th"])}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "a"), ("t", "h"), ("▁", "th")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    return wrap(backend, "<s> $A")


def byte_level() -> PreTrainedTokenizerFast:
    """Like Qwen's: no BOS, and no prefix."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<unk>", *SPECIAL, *alphabet, "Ġt"])}
    backend = Tokenizer(models.BPE(vocabulary, [("Ġ", "t")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return wrap(backend, None)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "words with BOS": word_level,
    "words without BOS": lambda: word_level(None),
    "words with BOS and EOS": lambda: word_level("<s> $A </s>"),
    "words with EOS": lambda: word_level("$A </s>"),
    "sentencepiece, always": sentencepiece,
    "sentencepiece, first": lambda: sentencepiece("first"),
    "bytes": byte_level,
}

PROMPTS = [
    "what is this?",
    "USER: <image>\nwhat is this? ASSISTANT:",
    "<image>",
    "<image>\nQ1",
    "Q1\n<image>",
    "<image><image>",
    "USER: <image>\n<image>\nQ1 ASSISTANT: A1</s>USER: Q2 <image> ASSISTANT:",
    "A1</s><s>what <image> is",
    "",
    "<s>what is <image>this",
]


def slow_encode(text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokenise every piece as a text of its own; keep the BOS of the first and the EOS of the last only."""
    pieces = text.split("<image>")
    adds_bos = tokenizer("Q1")["input_ids"][0] == tokenizer.bos_token_id
    adds_eos = tokenizer("Q1")["input_ids"][-1] == tokenizer.eos_token_id
    ids: list[int] = []
    for index, piece in enumerate(pieces):
        own = tokenizer(piece)["input_ids"]
        if index:
            ids += [999, 999, 999]
            own = own[1:] if adds_bos else own
        if adds_eos and index < len(pieces) - 1:
            own = own[:-1]
        ids += own
    return ids


@pytest.mark.parametrize("text", PROMPTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_equal_those_of_the_slow_implementation(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    assert encode_prompt(text, tokenizer, IMAGE).input_ids == slow_encode(text, tokenizer)
    with_offsets = encode_prompt(text, tokenizer, IMAGE, with_offsets=True)
    assert with_offsets.input_ids == slow_encode(text, tokenizer)
    assert with_offsets.offsets is not None
    assert len(with_offsets.offsets) == len(with_offsets.input_ids)


@pytest.mark.parametrize("text", PROMPTS)
@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "sentencepiece, first"])
def test_a_tokenizer_with_the_mark_makes_the_same_ids_from_the_whole_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    expected = encode_prompt(text, tokenizer, IMAGE).input_ids
    mark = add_mark(tokenizer, IMAGE.mark)
    assert add_mark(tokenizer, IMAGE.mark) == mark == len(tokenizer) - 1
    whole = [[IMAGE.token_id] * IMAGE.num_tokens if id_ == mark else [id_] for id_ in tokenizer(text)["input_ids"]]
    assert sum(whole, []) == expected


def test_the_dummy_prefix_stands_before_every_piece() -> None:
    for scheme in ("always", "first"):
        tokenizer = sentencepiece(scheme)
        tokens = tokenizer.convert_ids_to_tokens(encode_prompt("a<image>a<image>th", tokenizer, IMAGE).input_ids)
        assert [token for token in tokens if token] == ["<s>", "▁a", "▁a", "▁th"]
    # Tokenised as one text, the second piece would have no prefix of its own.
    assert "▁th" not in tokenizer.convert_ids_to_tokens(tokenizer("aXth")["input_ids"])


def test_bos_stands_first_even_before_an_image() -> None:
    tokenizer = word_level("<s> $A </s>")
    assert encode_prompt("<image>", tokenizer, IMAGE).input_ids == [1, 999, 999, 999, 2]
    assert encode_prompt("<image>", tokenizer, IMAGE, add_special_tokens=False).input_ids == [999, 999, 999]


def test_a_vocabulary_without_letters_still_shows_its_special_tokens() -> None:
    backend = Tokenizer(models.BPE({"</s>": 0, "<s>": 1, "Q": 2}, []))
    special = [("<s>", 1), ("</s>", 0)]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    assert encode_prompt("Q<image>Q", tokenizer, IMAGE).input_ids == [1, 2, 999, 999, 999, 2, 0]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_offsets_point_at_the_text_of_each_token(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "USER: <image>\nwhat is this? ASSISTANT: A1</s>USER: Q2 <image>this?"
    tokens = encode_prompt(text, tokenizer, IMAGE, with_offsets=True)
    assert tokens.offsets is not None
    covered = {place for start, end in tokens.offsets for place in range(start, end)}
    marks = {place for mark in (6, text.rindex("<image>")) for place in range(mark, mark + 7)}
    assert {place for place in range(len(text)) if not text[place].isspace()} - covered == marks
    assert not covered & marks
    for id_, (start, end) in zip(tokens.input_ids, tokens.offsets, strict=True):
        if id_ == IMAGE.token_id:
            assert start == end
            assert text[start:].startswith("<image>")


def test_the_mask_of_spans() -> None:
    tokens = encode_prompt("Q1 A1</s>Q2 <image>A2", word_level("<s> $A </s>"), IMAGE, with_offsets=True)
    # <s> Q1 A1 </s> Q2 (three visual tokens) A2 </s>
    assert tokens.mask([(2, 9), (19, 21)]) == [0, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    assert tokens.mask([]) == [0] * 10
    assert tokens.mask([(0, 21)]) == [0, 1, 1, 1, 1, 0, 0, 0, 1, 0]
    with pytest.raises(PromptError, match="encoded without offsets"):
        encode_prompt("Q1", word_level(), IMAGE).mask([])


def test_offsets_need_a_tokenizer_that_has_them() -> None:
    class Slow:
        is_fast = False

    slow: Any = Slow()
    with pytest.raises(PromptError, match="^The tokenizer 'Slow' cannot map tokens to text, so"):
        encode_prompt("Q1", slow, IMAGE, with_offsets=True)


def test_text_may_not_hold_the_id_of_images() -> None:
    with pytest.raises(PromptError) as caught:
        encode_prompt("what is <image>", word_level(), ImageTokens("<image>", 12, 3))
    assert str(caught.value) == (
        "The prompt holds the token 'is', whose id 12 this model reserves for visual tokens. "
        "Remove it from the text, or choose another image_token_id for processor and model."
    )


@pytest.mark.parametrize("name", ["sentencepiece, always", "sentencepiece, first", "bytes"])
@pytest.mark.parametrize("text", [prompt for prompt in PROMPTS if "</s>" not in prompt and "<s>" not in prompt])
def test_decoding_undoes_encoding(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    ids = encode_prompt(text, tokenizer, IMAGE, add_special_tokens=False).input_ids
    assert decode_ids(ids, tokenizer, IMAGE) == text


def test_decoding_odd_ids() -> None:
    tokenizer = word_level()
    text = encode_prompt("Q1<image><image>Q2</s>", tokenizer, IMAGE).input_ids
    assert decode_ids(text, tokenizer, IMAGE) == "<s> Q1<image><image>Q2 </s>"
    assert decode_ids(text, tokenizer, IMAGE, skip_special_tokens=True) == "Q1Q2"
    assert decode_ids([-100, 4, 999, 10**6, 5, -1], tokenizer, IMAGE) == "Q1<image>Q2"
    assert decode_ids([999] * 4, tokenizer, IMAGE) == "<image><image>"
    assert decode_ids([], tokenizer, IMAGE) == ""


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("a</s>b", "a< /s>b"),
        ("<<s>s>", "<< s>s>"),
        ("<s></s><unk>", "< s>< /s>< unk>"),
        ("1 < 2, <b>bold</b>", "1 < 2, <b>bold</b>"),
    ],
)
def test_special_tokens_that_are_typed_are_words(typed: str, wanted: str) -> None:
    tokenizer = word_level("<s> $A </s>")
    disarmed = disarm_special_tokens(typed, tokenizer)
    assert disarmed == wanted
    assert disarm_special_tokens(disarmed, tokenizer) == disarmed
    ids = encode_prompt(disarmed, tokenizer, IMAGE).input_ids
    assert ids[0] == 1 and ids[-1] == 2
    assert not {1, 2} & set(ids[1:-1])
