from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mgem_agent import nano
from mgem_agent.core_model.forced_answer import ForcedAnswer
from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.nano.eval import seeing_model
from mgem_agent.recipes.nano.eval.seeing_model import SeeingModel, find_weights

PICTURES = [Image.effect_noise((64, 64), 90).convert("RGB"), Image.new("RGB", (64, 64), "red")]
QUESTIONS = ["What is this?", "Is there a fox in the picture?"]


@pytest.fixture(scope="module")
def whole(model_folder: Path) -> SeeingModel:
    return SeeingModel.open(str(model_folder))


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing_model, "_MAX_NEW_TOKENS", 3)


def test_a_batch_says_what_each_question_gets_alone(whole: SeeingModel) -> None:
    together = whole.answer(PICTURES, QUESTIONS)
    alone = [whole.answer([picture], [text])[0] for picture, text in zip(PICTURES, QUESTIONS, strict=True)]
    assert together == alone
    assert all(together)


def test_a_picture_that_is_not_known_gets_the_fixed_answer_in_a_batch(
    whole: SeeingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeing_model, "_MAX_NEW_TOKENS", 8)
    free = whole.answer(PICTURES, QUESTIONS)
    words = whole.processor.tokenizer("Hm?", add_special_tokens=False).input_ids

    def forced(pictures: Any, tokenizer: Any, stop_ids: Any) -> ForcedAnswer:
        assert [len(asked) for asked in pictures] == [1] * len(PICTURES)
        return ForcedAnswer([*words, stop_ids[0]], [place == 0 for place in range(len(PICTURES))])

    monkeypatch.setattr(whole.model, "forced_answer", forced)
    assert whole.answer(PICTURES, QUESTIONS) == ["Hm?", *free[1:]] != free


def test_low_resolution_alone_is_all_that_a_model_without_high_resolution_sees(
    whole: SeeingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []
    rendered = whole.processor.apply_chat_template

    def spy(dialogues: Any, **options: Any) -> Any:
        shown.append(dialogues[0][0]["content"][0]["image"].size)
        return rendered(dialogues, **options)

    monkeypatch.setattr(whole.processor, "apply_chat_template", spy)
    whole.answer(PICTURES[:1], QUESTIONS[:1])
    SeeingModel(whole.model, whole.processor, low_res_only=True).answer(PICTURES[:1], QUESTIONS[:1])
    assert shown == [(64, 64), (28, 28)]


def test_names(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_weights("YanweiLi/MGM-2B") == "YanweiLi/MGM-2B"
    assert find_weights(str(model_folder)) == str(model_folder)
    save_file({"model.mining.query_norm.bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(nano, "find_nano", lambda folder="box": f"whole {folder}")
    assert find_weights(str(tmp_path)) == f"whole {tmp_path}"
    assert find_weights("nano") == "whole box"


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no 'config.json' in"):
        SeeingModel.open(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"cannot be read: .*Export the model again\."):
        SeeingModel.open(str(tmp_path))


def test_weights_are_loaded_as_the_machine_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert seeing_model.loading_options() == {"dtype": torch.float32}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert seeing_model.loading_options() == {"dtype": torch.bfloat16, "device_map": "auto"}
