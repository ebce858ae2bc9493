"""Small stories: whole, and asked for and answered as the workflow asks and reads."""

import json
import random

import pytest

from mgem_agent.errors import InputError
from mgem_agent.prompts import render_prompt
from mgem_agent.recipes.nano.world.story_dialogues import STORY_TASKS, small_story, story_turn, write_stories
from mgem_agent.workflows.story_text import read_cast, read_line, read_outline, read_text


def test_a_story_has_a_beginning_a_friend_and_an_end():
    lengths = set()
    for seed in range(60):
        story = small_story(random.Random(seed))
        lengths.add(len(story.pages))
        assert len({page.line for page in story.pages}) == len(story.pages)
        assert story.cast[0][0] in story.pages[0].line
        assert story.cast[1][0] in story.pages[-1].line + story.pages[-1].text
        assert not any("{" in words for page in story.pages for words in (page.heading, page.line, page.text))
        assert "{" not in story.title + story.premise
    assert lengths == set(range(3, 9))


def test_a_caption_says_what_its_page_says():
    for seed in range(60):
        for page in small_story(random.Random(seed)).pages:
            said = page.caption.rstrip(".").replace(" the ", " ").replace(" a ", " ").replace(" an ", " ").split()
            told = page.text.casefold()
            assert sum(word.strip(",").casefold() in told for word in said) >= len(said) - 2  # "with", "and"


def test_what_the_workflow_reads_of_an_answer_is_all_of_it():
    seen = set()
    for seed in range(200):
        task, question, answer = story_turn(random.Random(seed), render_prompt)
        seen.add(task)
        if task == "outline":
            lines = read_outline(answer, 8)
            assert f"exactly {len(lines)} scenes" in question
        elif task == "cast":
            assert [f"{each.name}: {each.looks}" for each in read_cast(answer, 4)] == answer.splitlines()
        elif task == "scene_text":
            assert read_text(answer, "no heading") == answer
        else:
            assert read_line(answer) == answer
    assert seen == set(STORY_TASKS)


def test_records_are_written_once_and_gone_on_with(tmp_path):
    path = write_stories(tmp_path, 3, render_prompt)
    first = path.read_text(encoding="utf-8")
    write_stories(tmp_path, 5, render_prompt)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert path.read_text(encoding="utf-8").startswith(first)
    assert [record["id"] for record in records] == [f"story-0-{number}" for number in range(5)]
    assert all([turn["from"] for turn in record["conversations"]] == ["human", "gpt"] for record in records)
    with pytest.raises(InputError, match="0 records cannot be written"):
        write_stories(tmp_path, 0, render_prompt)
    with pytest.raises(InputError, match="other settings"):
        write_stories(tmp_path, 9, render_prompt, seed=1)
