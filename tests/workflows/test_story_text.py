"""Reading what small models write."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from mgem_agent.workflows.story_text import (
    first_sentence,
    read_cast,
    read_line,
    read_looks,
    read_outline,
    read_text,
    shorten,
    split_title,
)


@pytest.mark.parametrize(
    "said",
    [
        "1. A fox wakes.\n2. A fox runs.",
        "Sure! Here is your plan:\n\n1) A fox wakes.\n2) A fox runs.\n3) It is never read.",
        "**Scene 1:** A fox wakes.\n**Scene 2:** A fox runs.",
        "## Step 1 - A fox wakes.\n## Step 2 - A fox runs.",
        "- A fox wakes.\n- A fox runs.",
        "Here are the scenes:\nA fox wakes.\nA fox runs.",
        "A fox wakes. A fox runs.",
        "1. A fox wakes.\n1. A fox wakes.\n2. A fox runs.\n2. A fox wakes",
        "<think>1. No no.\n</think>\n1. A fox wakes.\n2. A fox runs.",
    ],
)
def test_an_outline_in_any_form(said: str) -> None:
    assert read_outline(said, 2) == ["A fox wakes.", "A fox runs."]


def test_a_tale_instead_of_an_outline() -> None:
    said = (
        "The Fox and the Snow\nA fox wakes. It yawns. It is cold.\n\nThe fox runs. It finds a hole. It sleeps. And th"
    )
    assert read_outline(said, 3) == ["A fox wakes.", "It is cold.", "It finds a hole."]
    assert read_outline(said, 9)[-1] == "It sleeps."


def test_an_outline_of_nothing() -> None:
    assert read_outline("", 3) == read_outline("Sure!", 3) == read_outline("...\n\n---", 3) == []


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("The fox: It wakes up.", ("The fox", "It wakes up.")),
        ("The fox – it wakes", ("The fox", "it wakes")),
        ("A fox wakes up.", ("", "A fox wakes up.")),
        ("He said. Then: nothing", ("", "He said. Then: nothing")),
    ],
)
def test_headings(line: str, parts: tuple[str, str]) -> None:
    assert split_title(line) == parts


def test_a_cast_in_any_form() -> None:
    said = (
        "Here are the characters:\n- **Pip**: a small grey mouse, green coat.\n2. Tom (the cat): orange fur\n"
        "Rosa: old\npip: somebody else entirely\nAnd so they all lived in a very big house: happy and well"
    )
    assert [(each.name, each.looks) for each in read_cast(said, 4)] == [
        ("Pip", "a small grey mouse, green coat"),
        ("Tom", "orange fur"),
    ]
    assert len(read_cast(said, 1)) == 1


@pytest.mark.parametrize(
    "said",
    ["A fox in snow.", '"A fox in snow."', "Caption: A fox in snow.", "Sure, here it is:\n> **A fox in snow.**\nMore."],
)
def test_a_line_in_any_form(said: str) -> None:
    assert read_line(said) == "A fox in snow."


def test_looks_can_stand_within_a_caption() -> None:
    assert read_looks("Looks: a grey mouse, with a coat.\n") == "a grey mouse, with a coat"


@pytest.mark.parametrize(
    "said",
    [
        "The fox woke. It ran.\n\nIt was gone.",
        "Scene 2: The fox\n\nThe fox woke. It ran.\n\nIt was gone.",
        "The fox.\nThe fox woke. It ran.\nIt was gone.\nIt was gone.",
        "Here is the text:\n\nThe fox woke. It ran.\n\nIt was gone.",
        "A new heading\n\nThe fox woke. It ran.\n\nIt was gone.",
    ],
)
def test_a_page_in_any_form(said: str) -> None:
    assert read_text(said, "The fox") == "The fox woke. It ran.\n\nIt was gone."


def test_a_page_that_was_cut_off_ends_with_a_sentence() -> None:
    assert read_text("The fox woke. “It ran.”\n\nIt was not just any", "") == "The fox woke. “It ran.”"
    assert read_text("In the heavens above,\nA battle rages on", "") == "In the heavens above,\n\nA battle rages on"


def test_a_page_of_nothing() -> None:
    assert read_text("Okay.", "The fox") == read_text("The fox", "The fox") == ""


def test_shortening() -> None:
    assert shorten("a fox, running", 9) == "a fox…"
    assert shorten("a fox", 9) == "a fox"
    assert first_sentence("A fox runs.\nIt is red.") == "A fox runs."


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.text())
def test_nothing_that_a_model_writes_breaks_it(said: str) -> None:
    for line in (*read_outline(said, 5), read_line(said), read_looks(said)):
        assert "\n" not in line and len(line) <= 600
    assert len(read_cast(said, 3)) <= 3
    assert isinstance(read_text(said, said), str)


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ("1. 开头：龙醒了。\n2. 结尾：龙飞走了。", ["开头：龙醒了。", "结尾：龙飞走了。"]),
        ("好的！以下是大纲：\n１．龙醒了。\n２．龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("第一幕：龙醒了。\n第2幕 龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("一、龙醒了。\n二、龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("（1）龙醒了。\n（2）龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("①龙醒了。\n②龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("场景1：龙醒了。\n场景2：龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("・竜が起きる。\n・竜が飛ぶ。", ["竜が起きる。", "竜が飛ぶ。"]),
        ("シーン1：竜が起きる。\nシーン2：竜が飛ぶ。", ["竜が起きる。", "竜が飛ぶ。"]),
        ("龙醒了。龙飞走了。", ["龙醒了。", "龙飞走了。"]),
        ("ฉากที่ 1: มังกรตื่น\nฉากที่ 2: มังกรบิน", ["มังกรตื่น", "มังกรบิน"]),
        ("มังกรตื่น มังกรบิน", ["มังกรตื่น", "มังกรบิน"]),
        ("下雪\n龙醒了", ["下雪", "龙醒了"]),
    ],
)
def test_an_outline_in_scripts_without_blanks(said: str, lines: list[str]) -> None:
    assert read_outline(said, 2) == lines


def test_a_line_that_begins_with_a_number_is_no_numbered_line() -> None:
    assert read_outline("一条龙醒了。\n三只老鼠跑了。", 2) == ["一条龙醒了。", "三只老鼠跑了。"]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("最后的座位：他们都跑向火车。", ("最后的座位", "他们都跑向火车。")),
        ("開始——竜が起きる", ("開始", "竜が起きる")),
        ("他说。然后：没有", ("", "他说。然后：没有")),
    ],
)
def test_headings_in_scripts_without_blanks(line: str, parts: tuple[str, str]) -> None:
    assert split_title(line) == parts


def test_a_cast_in_scripts_without_blanks() -> None:
    said = "角色如下：\n1. 小红：一个穿红裙子的小女孩。\n- 老猫（猫）：橙色的毛，戴铃铛\n"
    said += "หนูนา: หนูสีเทาตัวเล็ก\n名前：年\nピップ：年"
    assert [(each.name, each.looks) for each in read_cast(said, 4)] == [
        ("小红", "一个穿红裙子的小女孩"),
        ("老猫", "橙色的毛，戴铃铛"),
        ("หนูนา", "หนูสีเทาตัวเล็ก"),
    ]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("《龙与骑士》", "龙与骑士"),
        ("标题：《龙与骑士》", "龙与骑士"),
        ("タイトル：「竜と騎士」", "竜と騎士"),
        ("ชื่อเรื่อง: มังกรน้อย", "มังกรน้อย"),
    ],
)
def test_a_title_in_scripts_without_blanks(said: str, line: str) -> None:
    assert read_line(said) == line


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("第一幕：龙\n\n龙醒了。它飞走了。", "龙醒了。它飞走了。"),
        ("新的标题\n\n龙醒了。它飞走了。", "龙醒了。它飞走了。"),
        ("龙醒了。“我饿了。”它飞向", "龙醒了。“我饿了。”"),
        ("竜が起きた。「おなかがすいた。」と言った。そして", "竜が起きた。「おなかがすいた。」と言った。"),
        ("มังกรตื่น\n\nมันบินไป", "มังกรตื่น\n\nมันบินไป"),
    ],
)
def test_a_page_in_scripts_without_blanks(said: str, text: str) -> None:
    assert read_text(said, "龙") == text


def test_shortening_in_scripts_without_blanks() -> None:
    assert shorten("龙 醒了，飞过很大的海", 6) == "龙 醒了…"
    assert first_sentence("龙醒了。它飞走了。") == "龙醒了。"
    assert first_sentence("มังกรตื่น") == "มังกรตื่น"
