"""Words, and letters where a script has no blanks: counted, cut, and names found in them."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
import regex

from mgem_agent.workflows.word_units import cut_text, estimate_words, is_named, num_units, split_sentences, text_units


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("A fox, running.", 3, 3),
        ("龙醒了。", 3, 1),
        ("ネズミがチーズ屋を開く。", 11, 4),
        ("หนูตัวน้อยเปิดร้าน", 12, 4),
        ("Pip 走进森林。", 5, 3),
        ("작은 쥐가 달린다", 3, 3),
        ("……", 0, 0),
        ("", 0, 0),
    ],
)
def test_units_and_words(text: str, count: int, words: int) -> None:
    assert (num_units(text), estimate_words(text)) == (count, words)


def test_marks_and_vowels_stay_with_their_letter() -> None:
    assert text_units("เปิดร้าน") == ["เปิ", "ด", "ร้", "า", "น"]
    assert text_units("「はい。」") == ["「", "は", "い。」"]


def test_cutting() -> None:
    assert cut_text("a fox, running", 8) == "a fox,"
    assert cut_text("一条龙飞过大海", 4) == "一条龙飞"
    assert cut_text("Ember 一条很长的龙", 9) == "Ember 一条很"
    assert cut_text("เปิดร้าน", 2) == "เ"  # no room for the whole letter
    assert cut_text("👨‍👩‍👧‍👦" * 3, 9) == "👨‍👩‍👧‍👦"
    assert cut_text("x" * 9, 5) == "xxxxx"


@hypothesis.given(st.text(min_size=1), st.integers(min_value=1, max_value=40))
def test_a_cut_is_never_empty_and_never_within_a_letter(text: str, max_chars: int) -> None:
    cut = cut_text(text, max_chars)
    assert cut and text.startswith(cut)
    assert len(cut) in {match.end() for match in regex.finditer(r"\X", text)}
    assert len(cut) <= max_chars or len(regex.findall(r"\X", cut)) == 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('He said "no." She ran. ok', ['He said "no."', "She ran.", "ok"]),
        ("„Ende.“ Dann kam er.", ["„Ende.“", "Dann kam er."]),
        ("他说完了。“走吧。”他走了。", ["他说完了。", "“走吧。”", "他走了。"]),
        ("「はい。」と言った。終わり！？そう", ["「はい。」", "と言った。", "終わり！？", "そう"]),
        ("यह है। वह है।", ["यह है।", "वह है।"]),
        ("It cost 3.5 in all.", ["It cost 3.5 in all."]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Pip", "Pip's key"),
        ("Pip", "Pip走进森林"),
        ("小红", "第二天小红走进森林"),
        ("ネズミ", "白いネズミが走る"),
        ("민수", "민수가 달린다"),
    ],
)
def test_a_name_is_found(name: str, text: str) -> None:
    assert is_named(name, text)


@pytest.mark.parametrize(("name", "text"), [("Pip", "the pipe"), ("ดา", "ด่าว"), ("กา", "ก่า"), ("", "the pipe")])
def test_a_name_is_not_part_of_a_word_or_a_letter(name: str, text: str) -> None:
    assert not is_named(name, text)
