"""TRL's DPO of the captioner: the rows, and two epochs on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mgem_agent.chat_models.langchain_messages import dialogue_from_messages
from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import MissingDependencyError
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.recipes.train.captioner.pairs import CaptionPair
from mgem_agent.recipes.train.captioner.preference import preference_rows, train_preferences

PAIRS = [
    CaptionPair(f"two {name}s", f"two {name}s in a bed", f"a {name}", 0.5) for name in ("cat", "dog", "cow", "owl")
]


def config(model: Path, **optimizer: Any) -> CaptionerConfig:
    return CaptionerConfig.model_validate(
        {
            "model": str(model),
            "generator": "flat",
            "reward": "a",
            "judge": "b",
            "lora": {"rank": 2},
            "optimizer": {"learning_rate": 0.05, "epochs": 2, "batch": 2, "micro_batch": 2, **optimizer},
            "precision": "fp32",
            "output": "unused",
        }
    )


def test_a_request_is_rendered_as_in_the_agent(model_folder: Path) -> None:
    from langchain_core.messages import HumanMessage

    processor = MiniGeminiProcessor.from_pretrained(model_folder)
    row = preference_rows(PAIRS[:1])[0]
    asked = processor.apply_chat_template(row["prompt"], add_generation_prompt=True)
    dialogue = dialogue_from_messages([HumanMessage("two cats")], image_resolver=None, allow_urls=False, draw=True)
    assert asked == processor.apply_chat_template(dialogue, add_generation_prompt=True)
    assert "two cats <GEN>" in asked
    assert processor.apply_chat_template(row["prompt"] + row["chosen"]).startswith(f"{asked}<h> two cats in a bed </h>")


@pytest.mark.slow
@pytest.mark.usefixtures("warnings_of_others")
@pytest.mark.parametrize("likelihood", [0.0, 0.5])
def test_the_better_captions_become_likelier(model_folder: Path, tmp_path: Path, likelihood: float) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'mgem-agent[rl]'")
    said: list[str] = []
    train_preferences(config(model_folder, likelihood=likelihood), PAIRS, tmp_path / "model", said.append)
    assert len(said) == 4 and said[0].startswith("step 1 of 4: loss ")
    before = advantage(model_folder)
    after = advantage(tmp_path / "model")
    assert after > before + 1
    changed = changed_parts(model_folder, tmp_path / "model")
    assert changed == {"language_model"}


def test_without_trl_the_extra_is_named(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingDependencyError, match=r"package 'trl'. Run: pip install 'mgem-agent\[rl\]'"):
        train_preferences(config(model_folder), PAIRS, tmp_path / "model")


@torch.no_grad()
def advantage(folder: Path) -> float:
    """Return how much likelier the chosen captions are than the rejected ones, in nats, from plain logits."""
    model: Any = MiniGeminiForConditionalGeneration.from_pretrained(folder).eval()
    processor = MiniGeminiProcessor.from_pretrained(folder)

    def logprob(prompt: list[Any], answer: list[Any]) -> float:
        start = processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True).shape[1]
        ids = processor.apply_chat_template(prompt + answer, tokenize=True)
        scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        return float(scores.gather(1, ids[0, 1:, None])[start - 1 :].sum())

    rows = preference_rows(PAIRS)
    return sum(logprob(row["prompt"], row["chosen"]) - logprob(row["prompt"], row["rejected"]) for row in rows)


def changed_parts(before: Path, after: Path) -> set[str]:
    first, second = (
        dict(MiniGeminiForConditionalGeneration.from_pretrained(folder).named_parameters())
        for folder in (before, after)
    )
    return {name.split(".")[1] for name, value in first.items() if not torch.equal(value, second[name])}
