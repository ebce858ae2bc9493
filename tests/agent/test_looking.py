"""A look pays: the strategies, the best attempt, and generators that always draw the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentNotice, LookedAt, PictureDrawn
from mgem_agent.agent.redraw import best_attempt, next_request, other_seeds
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.scoring import AtomAnswer, PictureScore
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import ImageRequest
from mgem_agent.tools.look import Look

ABLE = FlatColourGenerator.CAPABILITIES
SAME = ABLE.model_copy(update={"is_deterministic": True, "tasks": frozenset({"text_to_image"})})
FOX = ImageRequest(prompt="a fox and a hat", seed=5)
MISSED = PictureScore(
    answers=(
        AtomAnswer(question="Is there a fox in the picture?", words="fox", yes=1.0),
        AtomAnswer(question="Is there a hat in the picture?", words="hat", yes=0.0),
    )
)


def answers(*yes: str, **more: Any) -> str:
    return json.dumps({"answers": yes, **more})


@pytest.fixture
def make(tmp_path: Any) -> Callable[..., tuple[MgemAgent, FlatColourGenerator]]:
    def made(*script: str, capabilities: Any = ABLE, **options: Any) -> tuple[MgemAgent, FlatColourGenerator]:
        generator = FlatColourGenerator(size=(16, 16), num_steps=1, capabilities=capabilities)
        reasoner = ScriptedReasoner(script=["<h> a fox and a hat </h>", *script])
        store = ArtifactStore(tmp_path / "images")
        return MgemAgent(reasoner, generator, store=store, sessions=Sessions.in_memory(), **options), generator

    return made


def better(caption: str, score: PictureScore) -> str:
    return "a hat on a fox"


def plan(strategy: Any, capabilities: Any = ABLE, *more: ImageRequest) -> ImageRequest | None:
    return next_request([FOX, *more], "img-1234", MISSED, Look(strategy, 3), capabilities, better)


def test_retry_changes_the_seed_only() -> None:
    assert plan("retry") == FOX.model_copy(update={"seed": 6})
    assert plan("retry", ABLE, FOX) == FOX.model_copy(update={"seed": 7})


def test_revise_changes_the_caption_only() -> None:
    revised = plan("revise")
    assert revised == FOX.model_copy(update={"prompt": "a hat on a fox"})
    assert plan("revise", ABLE, revised) == FOX.model_copy(update={"prompt": "a hat on a fox", "seed": 7})


def test_edit_starts_from_the_best_picture() -> None:
    request = plan("edit")
    assert request is not None and (request.task, request.image) == ("edit", "img-1234")
    assert request.prompt == "Correct this picture so that it shows: a fox and a hat. not seen: hat."


def test_a_generator_that_does_not_edit_gets_a_revised_caption() -> None:
    plain = ABLE.model_copy(update={"tasks": frozenset({"text_to_image"})})
    request = plan("edit", plain)
    assert request is not None and (request.task, request.prompt) == ("text_to_image", "a hat on a fox")


def test_a_picture_that_would_be_the_same_is_not_drawn_again() -> None:
    assert plan("retry", SAME) is None and plan("auto", SAME) is None and other_seeds(FOX, 3, SAME) == []
    revised = plan("revise", SAME)
    assert revised is not None and revised.prompt == "a hat on a fox"
    assert plan("revise", SAME, revised) is None


def test_the_best_attempt_is_never_below_the_first() -> None:
    assert best_attempt([0.5, 0.4, 0.9, 0.9]) == 2
    assert best_attempt([0.5, 0.5]) == 0
    assert best_attempt([0.5, None, 0.4]) == 0
    assert best_attempt([None, 0.9]) == 0


def test_a_worse_redraw_is_not_returned(make: Any) -> None:
    agent, generator = make(answers("yes", "no"), answers("no", "no"), look="retry-1")
    turn = agent.invoke("Draw.")
    [picture] = turn.pictures
    assert [attempt.score for attempt in picture.attempts] == [0.5, 0.0]
    assert picture.artifact_id == picture.attempts[0].artifact_id and picture.score == 0.5
    assert picture.attempts[0].answers[1] == ("Is there a hat in the picture?", 0.0)
    assert len(generator.drawn) == 2
    assert agent.turns()[0].pictures == turn.pictures


def test_attempts_are_in_the_record_of_the_chosen_picture_alone(make: Any) -> None:
    agent, _ = make(answers("no", "no"), answers("yes", "yes"), look="retry-1")
    [picture] = agent.invoke("Draw.").pictures
    first, second = (attempt.artifact_id for attempt in picture.attempts)
    told = [(each.picture, each.score, each.problem) for each in agent.store.get(second).attempts]
    assert told == [(first, 0.0, "not seen: fox, hat"), (second, 1.0, "")] and picture.artifact_id == second
    assert agent.store.get(first).attempts == ()


def test_best_of_n_draws_its_variants_in_one_batch(make: Any) -> None:
    agent, generator = make(answers("no", "no"), answers("yes", "yes"), answers("yes", "no"), look="best-of-3")
    events = list(agent.stream("Draw."))
    drawn = [event.artifact_id for event in events if isinstance(event, PictureDrawn)]
    assert len(drawn) == 3 and generator.num_batches == 1
    assert [event.score for event in events if isinstance(event, LookedAt)] == [0.0, 1.0, 0.5]
    assert [picture.artifact_id for picture in events[-1].turn.pictures] == [drawn[1]]


def test_best_of_n_keeps_to_the_limit_of_pictures(make: Any) -> None:
    agent, generator = make(answers("yes", "no"), answers("no", "no"), look="best-of-4", max_pictures=2)
    assert len(agent.invoke("Draw.").pictures) == 1
    assert len(generator.drawn) == 2


def test_a_threshold_ends_the_look(make: Any) -> None:
    agent, generator = make(answers("yes", "no"), look="retry-3@0.5")
    assert agent.invoke("Draw.").pictures[0].score == 0.5
    assert len(generator.drawn) == 1


def test_revise_asks_the_reasoner_for_a_caption(make: Any) -> None:
    agent, generator = make(answers("yes", "no"), "a tall hat on a fox", answers("yes", "yes"), look="revise")
    assert agent.invoke("Draw.").pictures[0].prompt == "a tall hat on a fox"
    assert [request.prompt for request in generator.drawn] == ["a fox and a hat", "a tall hat on a fox"]


@pytest.mark.parametrize("look", ["retry", "best-of-3"])
def test_a_deterministic_generator_is_asked_once(make: Any, look: str) -> None:
    agent, generator = make(answers("yes", "no"), look=look, capabilities=SAME)
    events = list(agent.stream("Draw."))
    assert len(generator.drawn) == 1
    notice = "flat draws the same picture for the same caption, so it was not drawn again."
    assert AgentNotice(notice) in events and notice in events[-1].turn.notices


def test_the_questions_are_written_once(make: Any) -> None:
    questions = '{"questions": [{"kind": "thing", "question": "Is there a fox?"}]}'
    generator = FlatColourGenerator(size=(16, 16), num_steps=1)
    script = ["<h> a fox jumps over a dog </h>", questions, answers("no"), answers("yes")]
    reasoner = ScriptedReasoner(script=script)
    agent = MgemAgent(reasoner, generator, store=make()[0].store, sessions=Sessions.in_memory(), look="retry")
    assert agent.invoke("Draw.").pictures[0].score == 1.0


def test_a_wrong_look_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"^look is 'stare'\. Give a maximum number of redraws"):
        make(look="stare")
