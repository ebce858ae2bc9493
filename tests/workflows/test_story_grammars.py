"""Grammars of a story's steps: they can be compiled, and whatever a model wants to write, the premise stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model.dialogue import grammar_constraint
from mgem_agent.core_model.dialogue.grammar_constraint import GrammarTokens
from mgem_agent.workflows.premise import Premise
from mgem_agent.workflows.story_grammars import caption_grammar, outline_grammar, scene_text_grammar

STOP = 256
FOX = Premise("fox", ("key",), "in a snowy forest")
MIA = Premise("Mia")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="</s>")


@pytest.fixture(scope="module")
def tokens(tokenizer: PreTrainedTokenizerFast) -> GrammarTokens:
    return GrammarTokens(tokenizer, num_scores=STOP + 1, stop_ids=[STOP])


@pytest.fixture(autouse=True)
def repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_constraint, "_LONGEST_REPETITION", 1000)  # counted in tokens, here in bytes


def written(tokens: GrammarTokens, tokenizer: Any, grammar: str, wishes: str = "") -> str:
    """Return what a model writes that wants to write a text, and after it a full stop or else anything."""
    constraint, ids = tokens.constraint(grammar), torch.tensor([[5, 6]])
    wish = tokenizer(wishes)["input_ids"]
    dot = tokenizer(".")["input_ids"][0]
    generator = torch.Generator().manual_seed(1)
    for step in range(1500):
        scores = torch.rand(1, STOP + 1, generator=generator)
        scores[0, dot], scores[0, STOP] = 2.0, 3.0
        if step < len(wish):
            scores[0, wish[step]] = 4.0
        chosen = constraint(ids, scores).argmax(-1, keepdim=True)
        if chosen.item() == STOP:
            break
        ids = torch.cat([ids, chosen], dim=1)
    else:
        raise AssertionError("The answer does not end.")
    return str(tokenizer.decode(ids[0, 2:]))


def test_an_outline_that_keeps_the_premise_is_not_changed(tokens: GrammarTokens, tokenizer: Any) -> None:
    wish = (
        "1. A surprise: In a snowy forest, the fox finds a golden key.\n"
        "2. A day in the snow: One day the fox looks for food.\n"
        "3. Home again: In a snowy forest, the fox sleeps well."
    )
    assert written(tokens, tokenizer, outline_grammar(3, FOX), wish) == wish


@pytest.mark.parametrize("premise", [FOX, MIA])
def test_every_line_of_an_outline_names_the_hero(tokens: GrammarTokens, tokenizer: Any, premise: Premise) -> None:
    lines = written(tokens, tokenizer, outline_grammar(4, premise), "Sure! Here is a plan about something").split("\n")
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4."]
    assert all(premise.hero in line for line in lines)
    assert all(premise.place in line.lower() for line in (lines[0], lines[-1]))


def test_the_first_lines_of_an_outline_name_the_things(tokens: GrammarTokens, tokenizer: Any) -> None:
    premise = Premise("fox", ("key", "apples", "Ida"))
    lines = written(tokens, tokenizer, outline_grammar(4, premise), "Sure! Here is a plan about something").split("\n")
    assert [thing in line for thing, line in zip(("key", "apples", "Ida"), lines, strict=False)] == [True] * 3
    shorter = written(tokens, tokenizer, outline_grammar(2, premise), "Sure! Here is a plan").split("\n")
    assert [thing in line for thing, line in zip(("key", "apples"), shorter, strict=True)] == [True] * 2


@pytest.mark.parametrize("is_placed", [True, False])
def test_a_page_names_the_hero_first_and_ends(tokens: GrammarTokens, tokenizer: Any, is_placed: bool) -> None:
    text = written(tokens, tokenizer, scene_text_grammar(FOX, is_placed=is_placed), "Nothing about him. <h> no </h>")
    assert "fox" in text.partition(".")[0] and "<" not in text
    assert text.startswith("In a snowy forest, ") == is_placed


def test_a_caption_has_the_hero_a_thing_of_the_page_and_a_place(tokens: GrammarTokens, tokenizer: Any) -> None:
    page = "The fox saw a key on a hill."
    free = caption_grammar(FOX, page, is_placed=False)
    assert written(tokens, tokenizer, free, "The fox and a key on a hill.") == "The fox and a key on a hill."
    held = caption_grammar(FOX, page, is_placed=True)
    assert re.fullmatch(
        r"(The|A) fox( and a key)? in a snowy forest\.", written(tokens, tokenizer, held, "The sea on a hill.")
    )
    assert written(tokens, tokenizer, caption_grammar(MIA, "Mia smiled.", is_placed=True), "Who?") == "Mia."
