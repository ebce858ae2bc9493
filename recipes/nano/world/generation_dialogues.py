"""Text-only dialogues that teach when and what to draw, from templates and the generator's world.

They have the paper's two kinds (Mini-Gemini, section 3.3 and Figure 7): a short instruction that becomes a full
caption, and a conversation whose captions summarise it, with several captions in one answer for a story. Other
questions are answered without a picture.

Questions of the held-out split are worded otherwise: no training dialogue has one of their sentences.

Captions are in `<h> … </h>`. Most requests to draw have `draw`, which adds `<GEN>`; others omit it, so that the model
also learns to recognise a request from the words.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS, SCENERY, Background
from mgem_agent.recipes.nano.world.concepts import Concept, load_concepts
from mgem_agent.recipes.nano.world.nouns import (
    is_countable,
    joined_with_and,
    plural,
    verb_for,
    with_article,
    with_capital,
)
from mgem_agent.recipes.nano.world.scene_parts import Split

__all__ = ["GENERATION_KINDS", "REFUSALS", "GenerationTurn", "choose_generation_kind", "generation_dialogue"]

GenerationKind = Literal["recaption", "in_context", "story", "text_only"]
GENERATION_KINDS: tuple[GenerationKind, ...] = ("recaption", "in_context", "story", "text_only")
"""Kinds of dialogues; `text_only` has no caption."""

_SHARES: dict[GenerationKind, float] = {"recaption": 0.45, "in_context": 0.2, "story": 0.15, "text_only": 0.2}
_SIGN_SHARE = 0.6
_ENDINGS = (
    "bright colours",
    "soft light",
    "simple 3d style",
    "smooth and glossy",
    "clean and simple",
    "highly detailed",
)
_HEROES = ("animals", "faces")
_NAMES = ("Mia", "Tom", "Lena", "Ben", "Zoe", "Max", "Nora", "Sam", "Ida", "Leo")


@dataclass(frozen=True)
class GenerationTurn:
    """A question and its answer.

    Args:
        question: Text of the user.
        answer: Text of the assistant, with captions between `<h>` and `</h>`.
        draw: Whether the user's turn ends with `<GEN>`.
        wanted: Names that the captions must contain.
    """

    question: str
    answer: str
    draw: bool = False
    wanted: tuple[str, ...] = ()


def choose_generation_kind(rng: random.Random) -> GenerationKind:
    """Return a random kind of dialogue, by frequency."""
    return rng.choices(GENERATION_KINDS, [_SHARES[kind] for kind in GENERATION_KINDS])[0]


def generation_dialogue(kind: GenerationKind, rng: random.Random, split: Split = "train") -> tuple[GenerationTurn, ...]:
    """Return the turns of a dialogue.

    Args:
        kind: Kind of the dialogue.
        rng: Random generator.
        split: "train" or "held_out", which has other wordings.
    """
    return _MAKERS[kind](rng, split)


def _things(rng: random.Random, number: int) -> list[Concept]:
    return rng.sample(load_concepts(), number)


def _place(rng: random.Random, background: Background) -> str:
    return rng.choice(background.phrases)


def _caption(rng: random.Random, words: str, place: str) -> str:
    """Return a full caption in tags; the things come first, because generators weight the first words most."""
    return f"<h> {', '.join([f'{words} {place}'.strip(), *rng.sample(_ENDINGS, rng.randint(1, 3))])} </h>"


def _draws(rng: random.Random, question: str, answer: str, *wanted: str) -> GenerationTurn:
    return GenerationTurn(question, answer, rng.random() < _SIGN_SHARE, wanted)


def _looks(concept: Concept) -> str:
    """Return a thing with its colour, if known: the minimum that a re-caption adds."""
    return with_article(concept.coloured_name)


def _spoken(rng: random.Random, concept: Concept) -> str:
    return rng.choice(concept.names)


def _ask(rng: random.Random, split: Split, what: str) -> str:
    if split == "held_out":
        return rng.choice(
            (
                f"Sketch {what}.",
                f"I'd love a drawing of {what}.",
                f"Would you paint {what}?",
                f"Let me see {what} in a picture.",
                f"Please illustrate this: {what}.",
                f"Give me an image that shows {what}.",
                f"My daughter wants a picture with {what}. Can you make one?",
                f"Design {what} for my wall.",
            )
        )
    return rng.choice(
        (
            f"Draw {what}.",
            f"draw me {what}",
            f"Please draw {what}.",
            f"Can you draw {what}?",
            f"Could you paint {what} for me?",
            f"I would like a picture of {what}.",
            f"Show me {what}.",
            f"Make a picture of {what}, please.",
            f"Create an image of {what}.",
            f"Generate {what}.",
            f"An illustration of {what}, please!",
            f"I want to see {what}.",
        )
    )


def _lead(rng: random.Random, what: str) -> str:
    """Return the text before a caption; often empty."""
    return rng.choice(("", "", "", f"Here is {what}. ", "Of course! ", "Here you are: ", "Gladly. "))


def _recaption(rng: random.Random, split: Split) -> tuple[GenerationTurn, ...]:
    concepts = _things(rng, rng.choice((1, 1, 1, 2)))
    background = rng.choice(BACKGROUNDS)
    names = [with_article(_spoken(rng, concept)) for concept in concepts]
    relation, joint = rng.choice(
        (
            (" next to ", " next to "),
            (" and ", " and "),
            (" above ", " above "),
            (" to the left of ", " to the left of "),
        )
    )
    what = relation.join(names)
    drawn = joint.join(_looks(concept) for concept in concepts)
    says_place = rng.random() < 0.6
    place = _place(rng, background if says_place else rng.choice(SCENERY))
    asked = f"{what} {place}" if says_place else what
    answer = f"{_lead(rng, what)}{_caption(rng, drawn, place)}"
    return (_draws(rng, _ask(rng, split, asked), answer, *(concept.name for concept in concepts)),)


_DRAW_IT: dict[Split, tuple[str, ...]] = {
    "train": ("Draw one.", "Now draw it.", "Can you show me that?", "Please draw it for me."),
    "held_out": ("I want a picture of it.", "Paint it, please.", "Could I see it drawn?"),
}
_MOVE: dict[Split, tuple[str, ...]] = {
    "train": ("Now {}.", "Now draw it {}.", "The same {}, please."),
    "held_out": ("Again, but {}.", "Let us see it {}.", "Paint it once more, {}."),
}
_ADD: dict[Split, tuple[str, ...]] = {
    "train": ("Add {}.", "Put {} next to it.", "Now with {}."),
    "held_out": ("Give it {} as company.", "There should be {} too.", "Draw it once more with {}."),
}
_REPLACE: dict[Split, tuple[str, ...]] = {
    "train": ("Make it {} instead.", "No, I meant {}.", "Now {}."),
    "held_out": ("Change it into {}.", "Rather {}, please.", "Swap it for {}."),
}


def _in_context(rng: random.Random, split: Split) -> tuple[GenerationTurn, ...]:
    concept, other = _things(rng, 2)
    first, second = rng.sample(SCENERY, 2)
    place, new_place = _place(rng, first), _place(rng, second)
    name, other_name = with_article(concept.name), with_article(other.name)
    turns: list[GenerationTurn] = []
    if rng.random() < 0.5:
        turns.append(_talk_of(rng, split, concept))
        question = rng.choice(_DRAW_IT[split])
        turns.append(_draws(rng, question, f"{_lead(rng, name)}{_caption(rng, _looks(concept), place)}", concept.name))
    else:
        asked = _ask(rng, split, f"{name} {place}")
        turns.append(_draws(rng, asked, _caption(rng, _looks(concept), place), concept.name))
    change = rng.choice(("move", "add", "replace", "talk"))
    if change == "move":
        question = rng.choice(_MOVE[split]).format(new_place)
        turns.append(_draws(rng, question, _caption(rng, _looks(concept), new_place), concept.name))
    elif change == "add":
        question = rng.choice(_ADD[split]).format(other_name)
        both = f"{_looks(concept)} next to {_looks(other)}"
        turns.append(_draws(rng, question, _caption(rng, both, place), concept.name, other.name))
    elif change == "replace":
        question = rng.choice(_REPLACE[split]).format(other_name)
        turns.append(_draws(rng, question, _caption(rng, _looks(other), place), other.name))
    else:
        turns.append(_thanks(rng, split))
    return tuple(turns)


_TELL: dict[Split, tuple[str, ...]] = {
    "train": (
        "Tell me a story about {who} and {whom} with {number} pictures.",
        "Tell an illustrated story of {who} who meets {whom}.",
        "A picture story about {who} and {whom}, please: {number} pictures.",
    ),
    "held_out": (
        "Make up a tale in which {who} finds {whom}, and illustrate it with {number} pictures.",
        "I'd like a bedtime story with {number} drawings: {who} becomes a friend of {whom}.",
    ),
}


def _story(rng: random.Random, split: Split) -> tuple[GenerationTurn, ...]:
    concept, friend = _things(rng, 2)
    if concept.group not in _HEROES and rng.random() < 0.8:
        concept = rng.choice([one for one in load_concepts() if one.group in _HEROES and one != friend])
    hero = rng.choice(_NAMES)
    number = rng.randint(2, 4)
    who, whom = with_article(concept.name), with_article(friend.name)
    scenes = rng.sample(SCENERY, number)
    beats = [
        f"Once there was {who} called {hero}, {{place}}.",
        f"One day {hero} met {whom} {{place}}.",
        "Together they had a great adventure {place}.",
        f"In the evening {hero} was tired and happy, {{place}}.",
    ][: number - 1] + [f"And so {hero} and the {friend.name} stayed friends, {{place}}."]
    parts = []
    for index, (beat, background) in enumerate(zip(beats, scenes, strict=True)):
        place = _place(rng, background)
        drawn = _looks(concept) if index == 0 else f"{_looks(concept)} and {_looks(friend)}"
        parts.append(f"{beat.format(place=place)} {_caption(rng, drawn, place)}")
    question = rng.choice(_TELL[split]).format(who=who, whom=whom, number=number)
    return (_draws(rng, question, "\n".join(parts), concept.name, friend.name),)


_FACTS: tuple[tuple[dict[Split, str], Callable[[Concept], str | None]], ...] = (
    (
        {"train": "What {verb} {one}?", "held_out": "Explain to me what {one} {verb}."},
        lambda c: f"{_kind_of(c)}.",
    ),
    (
        {"train": "What colour {verb} {one}?", "held_out": "Which colour would you give {one}?"},
        lambda c: f"Mostly {c.colour}." if c.colour else None,
    ),
    (
        {"train": "What is another word for {name}?", "held_out": "Do you know a synonym of {name}?"},
        lambda c: f"You can also say {c.synonyms[0]}." if c.synonyms else None,
    ),
    (
        {"train": "What is the plural of {name}?", "held_out": "One {name}, but two what?"},
        lambda c: f"The plural is {plural(c.name)}." if is_countable(c.name) else None,
    ),
    (
        {"train": "Do you like {many}?", "held_out": "What do you think of {many}?"},
        lambda c: f"Yes, {plural(c.name)} are a favourite of mine.",
    ),
)
_GROUP_WORDS = {
    "animals": "an animal", "nature": "part of nature", "food": "something to eat or drink", "vehicles": "a vehicle",
    "buildings": "a building", "sports": "something for sport and games", "clothing": "something to wear",
    "music": "something to make or hear music with", "objects": "an object", "faces": "a face or a figure",
}  # fmt: skip
_SMALL_TALK: dict[Split, tuple[tuple[str, str], ...]] = {
    "train": (
        ("Hello!", "Hello! What can I do for you?"),
        ("Good morning.", "Good morning! How can I help?"),
        ("How are you?", "Very well, thank you. What would you like to talk about?"),
        ("Who are you?", "I am a small assistant that talks, looks at pictures and draws."),
        ("What can you do?", "I can talk with you, tell you what I see in a picture, and draw pictures for you."),
        ("Goodbye.", "Goodbye! Come back soon."),
        ("Can you draw?", "Yes, I can. Tell me what you would like to see."),
        ("What is a drawing?", "A drawing is a picture made of lines and colours."),
        ("How do I draw a circle?", "Take a round cup, put it on paper and follow its edge with a pencil."),
        ("Write no picture, just say hello.", "Hello!"),
    ),
    "held_out": (
        ("Hi, nice to meet you.", "Nice to meet you, too!"),
        ("Good evening!", "Good evening! What can I do for you?"),
        ("Are you well today?", "Very well, thank you."),
        ("Tell me about yourself.", "I am a small assistant that talks, looks at pictures and draws."),
        (
            "What are you able to do?",
            "I can talk with you, tell you what I see in a picture, and draw pictures for you.",
        ),
        ("See you tomorrow.", "See you tomorrow!"),
        ("Are you good at painting?", "I like to paint simple pictures."),
        ("What is a painter?", "A painter is a person who makes pictures with paint."),
        ("Who drew the first picture?", "Nobody knows. People painted on the walls of caves long ago."),
        ("No drawing this time: just wish me luck.", "Good luck!"),
    ),
}


def _kind_of(concept: Concept) -> str:
    return with_capital(f"{with_article(concept.name)} {verb_for(concept.name)} {_GROUP_WORDS[concept.group]}")


def _talk_of(rng: random.Random, split: Split, concept: Concept) -> GenerationTurn:
    words = {
        "verb": verb_for(concept.name),
        "one": with_article(concept.name),
        "name": concept.name,
        "many": plural(concept.name),
    }
    while True:
        questions, answer_for = rng.choice(_FACTS)
        answer = answer_for(concept)
        if answer is not None:
            return GenerationTurn(questions[split].format(**words), answer)


_PRAISE: dict[Split, tuple[str, ...]] = {
    "train": ("Thank you!", "Great, thanks.", "Lovely!", "That is nice."),
    "held_out": ("Wonderful, I like it.", "Many thanks!", "What a beautiful picture."),
}


def _thanks(rng: random.Random, split: Split) -> GenerationTurn:
    question = rng.choice(_PRAISE[split])
    return GenerationTurn(question, rng.choice(("You are welcome!", "I am glad you like it.", "With pleasure!")))


def _sum(rng: random.Random, split: Split) -> GenerationTurn:
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    question = "What is {} plus {}?" if split == "train" else "Add {} and {} for me."
    return GenerationTurn(question.format(first, second), f"{first} plus {second} is {first + second}.")


def _list(rng: random.Random, split: Split) -> GenerationTurn:
    concept = rng.choice(load_concepts())
    same = [other.name for other in load_concepts() if other.group == concept.group]
    what = {"faces": "faces and figures", "nature": "things in nature", "music": "things for music",
            "clothing": "things to wear", "sports": "things for sport", "food": "things to eat"}.get(
        concept.group, concept.group)  # fmt: skip
    names = [plural(name) for name in rng.sample(same, 3)]
    question = "Name three {}." if split == "train" else "Which {} come to your mind? Three are enough."
    return GenerationTurn(question.format(what), f"{joined_with_and(names).capitalize()}.")


REFUSALS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Please don't draw anything.",
        "Do not draw.",
        "No picture, please.",
        "I do not want a picture.",
        "Don't make a picture, just answer.",
        "Answer in words only.",
    ),
    "held_out": (
        "Just text this time, no image.",
        "I don't need an illustration.",
        "Leave the brush alone and tell me:",
        "Stop drawing now, I have a question.",
    ),
}
"""Sentences that refuse a picture, before a question that is answered in words."""
_REFUSAL_SHARE = 0.25


def _refused(rng: random.Random, split: Split, turn: GenerationTurn) -> GenerationTurn:
    """Return a turn that sometimes says that no picture is wanted."""
    if rng.random() >= _REFUSAL_SHARE:
        return turn
    return replace(turn, question=f"{rng.choice(REFUSALS[split])} {turn.question}")


def _text_only(rng: random.Random, split: Split) -> tuple[GenerationTurn, ...]:
    makers: list[Callable[[], GenerationTurn]] = [
        lambda: _talk_of(rng, split, rng.choice(load_concepts())),
        lambda: GenerationTurn(*rng.choice(_SMALL_TALK[split])),
        lambda: _sum(rng, split),
        lambda: _list(rng, split),
    ]
    turns = [make() for make in rng.choices(makers, [0.5, 0.25, 0.1, 0.15], k=rng.randint(1, 3))]
    return tuple(_refused(rng, split, turn) for turn in {turn.question: turn for turn in turns}.values())


_MAKERS: dict[GenerationKind, Callable[[random.Random, Split], tuple[GenerationTurn, ...]]] = {
    "recaption": _recaption,
    "in_context": _in_context,
    "story": _story,
    "text_only": _text_only,
}
