"""Pieces joined are the text decoded at once, whatever characters the tokens are cut through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model.dialogue.text_decoder import TextDecoder


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """One token a byte, as in GPT-2 and LLaMA-3."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.fixture(scope="module")
def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Words with their space before them, the first space taken off, and bytes for what is no word, as in LLaMA."""
    words = ["<unk>", "▁", "▁so", "▁a", "s", "o", ".", "\n"]
    vocabulary = {word: index for index, word in enumerate([*words, *(f"<0x{byte:02X}>" for byte in range(256))])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def decoded(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@given(ids=st.lists(st.integers(0, 256), max_size=40))
def test_any_bytes(byte_level: PreTrainedTokenizerFast, ids: list[int]) -> None:
    pieces = list(TextDecoder(byte_level).decode(ids))
    assert "".join(pieces) == decoded(byte_level, ids)
    assert "" not in pieces


@given(words=st.lists(st.one_of(st.integers(1, 7), st.sampled_from("é你🙂")), max_size=20))
def test_words_with_spaces_and_characters_of_bytes(
    sentencepiece_like: PreTrainedTokenizerFast, words: list[int | str]
) -> None:
    ids = [
        index
        for word in words
        for index in ([word] if isinstance(word, int) else [8 + byte for byte in word.encode("utf-8")])
    ]
    assert "".join(TextDecoder(sentencepiece_like).decode(ids)) == decoded(sentencepiece_like, ids)


def test_a_character_comes_when_it_is_whole(byte_level: PreTrainedTokenizerFast) -> None:
    decoder = TextDecoder(byte_level)
    ids = byte_level("né 🙂")["input_ids"]
    assert [decoder.push(index) for index in ids] == ["n", "", "é", " ", "", "", "", "🙂"]
    assert decoder.flush() == ""


def test_half_a_character_comes_at_the_end(byte_level: PreTrainedTokenizerFast) -> None:
    decoder = TextDecoder(byte_level)
    assert [decoder.push(index) for index in byte_level("🙂")["input_ids"][:3]] == ["", "", ""]
    assert decoder.flush() == "\N{REPLACEMENT CHARACTER}"
    assert decoder.flush() == ""


def test_special_tokens_are_not_text(byte_level: PreTrainedTokenizerFast) -> None:
    end = byte_level.eos_token_id
    assert list(TextDecoder(byte_level).decode([end, *byte_level("a b")["input_ids"], end])) == ["a", " ", "b"]


def test_a_long_text_costs_no_more_for_each_token(
    byte_level: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    decode = byte_level.decode
    monkeypatch.setattr(byte_level, "decode", lambda ids, **options: lengths.append(len(ids)) or decode(ids, **options))
    assert "".join(TextDecoder(byte_level).decode(byte_level("🙂" * 50)["input_ids"])) == "🙂" * 50
    assert max(lengths) == 8
