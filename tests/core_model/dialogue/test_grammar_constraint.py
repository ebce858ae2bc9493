"""Tokens that would leave a grammar cannot be chosen, whatever the scores say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgem_agent.chat_models import answer_grammar
from mgem_agent.chat_models.answer_grammar import call_grammar, json_grammar, mixed_grammar, text_grammar
from mgem_agent.core_model.dialogue.grammar_constraint import GrammarTokens, can_follow_grammar
from mgem_agent.errors import InputError

STOP = 256


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="</s>")


@pytest.fixture(scope="module")
def tokens(tokenizer: PreTrainedTokenizerFast) -> GrammarTokens:
    return GrammarTokens(tokenizer, num_scores=STOP + 2, stop_ids=[STOP])  # a score more than there are tokens


def written(tokens: GrammarTokens, tokenizer: Any, grammar: str, wishes: str, most: int = 400) -> str:
    """What a model writes that wants to write some text, and else anything."""
    constraint, ids = tokens.constraint(grammar), torch.tensor([[5, 6]])  # a prompt
    wish = tokenizer(wishes)["input_ids"]
    generator = torch.Generator().manual_seed(1)
    for step in range(most):
        scores = torch.rand(1, STOP + 2, generator=generator)
        scores[0, wish[step] if step < len(wish) else STOP] = 2.0
        chosen = constraint(ids, scores).argmax(-1, keepdim=True)
        if chosen.item() == STOP:
            break
        ids = torch.cat([ids, chosen], dim=1)
    return str(tokenizer.decode(ids[0, 2:]))


TOOLS = [
    {
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "why": {"type": "string"}},
                "required": ["a"],
            },
        }
    },
    {"function": {"name": "stop"}},
]


@pytest.mark.parametrize(
    "wish", ['{"name": "add", "arguments": {"a": 3, "why": "\\nin rain"}}', '{"name": "stop", "arguments": {}}']
)
def test_what_fits_is_left_alone(tokens: GrammarTokens, tokenizer: Any, wish: str) -> None:
    assert written(tokens, tokenizer, call_grammar(TOOLS), wish) == f"{wish}\n</tool_call>"


@pytest.mark.parametrize(
    "wish", ["No, thanks.", '{"name": "adder"}', '{"name": "add", "arguments": [1]}', "", "{" * 50]
)
def test_a_call_comes_out_whatever_the_model_wants(tokens: GrammarTokens, tokenizer: Any, wish: str) -> None:
    answer = written(tokens, tokenizer, call_grammar(TOOLS), wish, most=1500)
    call = json.loads(answer.removesuffix("\n</tool_call>"))
    assert call["name"] in ("add", "stop")
    assert call["arguments"].keys() <= {"a", "why"} and isinstance(call["arguments"].get("a", 0), int)


def test_objects_and_texts_end(tokens: GrammarTokens, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_grammar, "_MAX_TEXT", 20)
    json.loads(written(tokens, tokenizer, json_grammar({"type": "object", "maxProperties": 1}), '{"a": 1, "b": 2'))
    text = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    found = json.loads(written(tokens, tokenizer, json_grammar(text), "?" * 100))
    assert len(found["a"]) <= 20


def test_words_hold_no_tag_and_are_not_blank(tokens: GrammarTokens, tokenizer: Any) -> None:
    assert written(tokens, tokenizer, text_grammar(), "Here it is.") == "Here it is."
    assert "<" not in written(tokens, tokenizer, text_grammar(), "<h> a fox </h>")
    assert written(tokens, tokenizer, text_grammar(), "").strip()


@pytest.mark.parametrize(
    ("wish", "begin"),
    [
        ("Just words, 1 < 2.", "Just words, 1 < 2."),
        ("A <h> fox </h>!", "A <h> fox </h>!"),
        (
            'So: <tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>',
            'So: <tool_call>\n{"name": "stop", "arguments": {}}',
        ),
        ("<tool_call>\n<h> a fox </h>", "<tool_call>\n<h> a fox </h>"),
        ('<tool_add>{"x": 1}', '<tool_call>\n{"name": "'),
    ],
)
def test_calls_in_words_are_whole(tokens: GrammarTokens, tokenizer: Any, wish: str, begin: str) -> None:
    answer = written(tokens, tokenizer, mixed_grammar(TOOLS), wish, most=1500)
    assert answer.startswith(begin)
    if begin.startswith("<tool_call>\n{"):
        json.loads(answer.removeprefix("<tool_call>\n").partition("\n</tool_call>")[0])


def test_a_grammar_wins_over_other_processors(tokens: GrammarTokens) -> None:
    constraint = tokens.constraint(call_grammar(TOOLS))
    scores = constraint(torch.tensor([[5]]), torch.full((1, STOP + 2), float("-inf")))
    assert scores.isfinite().sum() == 1


def test_a_form_that_cannot_be_held_is_refused(tokens: GrammarTokens) -> None:
    with pytest.raises(InputError, match=r"^Answers cannot be constrained to this form: .* Use a simpler JSON schema"):
        tokens.constraint(json_grammar({"type": "string", "pattern": "("}))


def test_only_fast_tokenizers_follow_grammars(tokenizer: Any) -> None:
    assert can_follow_grammar(tokenizer)
    assert not can_follow_grammar(object())  # type: ignore[arg-type]
