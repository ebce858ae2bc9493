from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from PIL import Image
from pydantic import Field

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.figure_judge import (
    ChatJudge,
    accepted_answers,
    check_other_judge,
    make_figure_judge,
)
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.testing import ScriptedReasoner

PROMPT = EvalPrompt(
    prompt="three cats",
    atom_count=2,
    vqa_list=(("How many cats are in the image?", "three"), ("Are there any cats in the image?", "Yes")),
    skills=("count", "object"),
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "cats.png")
    return tmp_path / "cats.png"


class Engine:
    """Gives each word of a table its probability."""

    def __init__(self, words: dict[str, float]) -> None:
        self.words = words
        self.asked: list[str] = []

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        self.asked.append(str(request.dialogue[-1]["content"][-1]["text"]))
        return [self.words.get(choice, 0.0) for choice in choices]

    def stream(self, request: TextRequest) -> Any:
        raise AssertionError("only probabilities are asked for")


def test_probabilities_of_our_own_models_are_soft_scores(picture: Path) -> None:
    engine = Engine({"three": 0.4, "3": 0.2, "two": 0.3, "yes": 0.7, "no": 0.1})
    judge = ChatJudge(ChatMiniGemini(model="any", engine_factory=lambda name: engine))
    assert judge.score(picture, PROMPT) == pytest.approx([0.6, 0.7])
    assert judge.kind == "soft"
    assert engine.asked[0] == "How many cats are in the image? Answer in one word."


class SmallModel(ChatMiniGemini):
    """A model that needs grammars, as nano does."""

    def needs_grammar(self) -> bool:
        return True


def test_a_small_model_gets_the_bare_question_and_chooses_among_answers(picture: Path) -> None:
    engine = Engine({"three": 0.03, "two": 0.01, "yes": 0.02, "no": 0.06})
    judge = ChatJudge(SmallModel(model="any", engine_factory=lambda name: engine))
    assert judge.score(picture, PROMPT) == pytest.approx([0.75, 0.25])
    assert engine.asked == [question for question, _ in PROMPT.vqa_list]


class Server(GenericFakeChatModel):
    """A model with the field of `ChatOpenAI` for probabilities."""

    messages: Any = None
    top_logprobs: int | None = None
    asked: list[dict[str, Any]] = Field(default_factory=list)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.asked.append(kwargs)
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_log_probabilities_of_a_server_are_soft_scores(picture: Path) -> None:
    top = [{"token": "Three", "logprob": math.log(0.5)}, {"token": " three", "logprob": math.log(0.25)}]
    told = {"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
    server = Server(messages=iter([AIMessage("Three", response_metadata=told), AIMessage("No, none.")]))
    judge = ChatJudge(server)
    assert judge.score(picture, PROMPT) == pytest.approx([0.75, 0.0])
    assert server.asked[0]["logprobs"] and server.asked[0]["top_logprobs"] == 20
    assert judge.kind == "hard"  # the second answer has no probabilities


def test_other_models_are_right_or_wrong(picture: Path) -> None:
    judge = ChatJudge(ScriptedReasoner(script=["<think>two or three</think>3.", "Yes, there are."]))
    assert judge.score(picture, PROMPT) == [1.0, 1.0]
    assert judge.kind == "hard"


def test_right_answers() -> None:
    assert accepted_answers("How many cats are there?", "ten") == ("ten", "10")
    assert accepted_answers("How many cats are there?", "dozens") == ("dozens",)
    assert accepted_answers("Are the cats white?", "Yes") == ("yes",)


def test_the_judge_in_the_loop_is_refused() -> None:
    check_other_judge("other", "nano", is_allowed=False)
    check_other_judge("nano", "nano", is_allowed=True)
    with pytest.raises(InputError, match="is also the judge in the loop"):
        check_other_judge("nano", "nano", is_allowed=False)


def test_only_vqascore_has_an_interpreter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is for a judge vqascore:MODEL, and the judge is 'nano'"):
        make_figure_judge("nano", tmp_path / "python")
    with pytest.raises(InputError, match="needs an environment with t2v_metrics"):
        make_figure_judge("vqascore:clip-flant5-xl")
