"""Replay: the answers of a model to questions, stored once."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.replay import write_replay


def question(index, seed):
    return f"What is {index + seed}?"


@pytest.fixture(scope="module")
def language_model():
    """A small untrained language model that knows the printable letters."""
    symbols = ["<pad>", "<|im_end|>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(symbols), eos_token_id=1))
    return model.eval(), PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|im_end|>")


def test_answers_are_written_once_and_continued(tmp_path, language_model):
    options = {"batch_size": 2, "max_tokens": 12}
    told: list[int] = []
    path = write_replay(tmp_path, 4, question, *language_model, **options, report=told.append)
    first = path.read_text(encoding="utf-8")
    records = [json.loads(line) for line in first.splitlines()]
    assert told == [2, 4]
    assert [record["id"] for record in records] == [f"replay-0-{number}" for number in range(4)]
    assert records[1]["conversations"][0] == {"from": "human", "value": "What is 1?"}
    assert all("<|im_end|>" not in record["conversations"][1]["value"] for record in records)
    write_replay(tmp_path, 6, question, *language_model, **options)
    assert path.read_text(encoding="utf-8").startswith(first)
    path.unlink()
    assert write_replay(tmp_path, 4, question, *language_model, **options).read_text(encoding="utf-8") == first


def test_a_sentence_that_was_cut_off_is_left_out(tmp_path, language_model, monkeypatch):
    model, tokenizer = language_model
    said = tokenizer("One is whole. Two is no", add_special_tokens=False).input_ids
    monkeypatch.setattr(
        model, "generate", lambda input_ids, **_: torch.cat([input_ids, torch.tensor([said] * len(input_ids))], 1)
    )
    path = write_replay(tmp_path, 1, question, model, tokenizer)
    assert json.loads(path.read_text(encoding="utf-8"))["conversations"][1]["value"] == "One is whole."


def test_no_answers_are_refused(tmp_path, language_model):
    with pytest.raises(InputError, match="0 answers cannot be written"):
        write_replay(tmp_path, 0, question, *language_model)
