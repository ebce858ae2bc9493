"""Grammars for the steps of a story, so that a small model does not forget the premise.

A model of a hundred million parameters writes tidy sentences and loses the hero after two of them. A grammar leaves it
the words and makes the hero, and the place where it matters, part of every answer. Large models need none of this.
Grammars are written in llguidance's Lark; every text in them is limited, because a small model may not stop.
"""

from __future__ import annotations

import json
import re

from mgem_agent.workflows.premise import Premise, read_page

__all__ = ["caption_grammar", "outline_grammar", "scene_text_grammar"]

_HEADING = r"HEADING: /[A-Z][a-z']*( [a-z']+){1,7}/"
_LINE = r"[^\x00-\x1f.!?:]"
_MAX_CHOICES = 4
_STARTS = ("", "One day ", "Then ", "Soon ", "At last ")
"""What may stand before the hero at the start of a sentence."""


def outline_grammar(num_scenes: int, premise: Premise) -> str:
    """Return the grammar of an outline: each line names the hero, the first and last the place, and some a thing.

    Each other thing of the premise is in one of the first lines, in the order of the premise.

    Args:
        num_scenes: Number of lines.
        premise: What the story must keep.
    """
    lines = []
    for number in range(1, num_scenes + 1):
        is_placed = number in (1, num_scenes)
        end = json.dumps("\n") if number < num_scenes else ""
        rest = f"THING{number}" if number <= len(premise.things) else "REST"
        lines.append(f'"{number}. " HEADING ": " {_start(premise, is_placed=is_placed)} {rest} {end}')
    rules = [_HEADING, rf"REST: /[ ,]{_LINE}{{8,110}}\./"]
    for number, thing in enumerate(premise.things, 1):
        named = re.escape(thing).replace("/", r"\/")
        rules.append(rf"THING{number}: /[ ,]({_LINE}{{1,60}}[ ,])?{named}s?([ ,]{_LINE}{{0,60}})?\./")
    return "\n".join([f"start: {' '.join(lines)}", *rules])


def scene_text_grammar(premise: Premise, *, is_placed: bool) -> str:
    """Return the grammar of a page's text: two to four sentences, of which the first names the hero.

    Args:
        premise: What the story must keep.
        is_placed: Whether the first sentence names the place.
    """
    return "\n".join(
        [
            f"start: {_start(premise, is_placed=is_placed)} FIRST MORE",
            r"FIRST: /[ ,][^\x00-\x1f.!?<]{8,140}[.!]/",
            r"MORE: /( [^\x00-\x1f.!?<]{5,140}[.!?][\"”]?){1,3}/",
        ]
    )


def caption_grammar(premise: Premise, text: str, *, is_placed: bool) -> str:
    """Return the grammar of a caption: the hero, at most one other thing of the page, and a place.

    Args:
        premise: What the story must keep.
        text: The text of the page.
        is_placed: Whether the place is the premise's; otherwise the page's own places are allowed, too.
    """
    nouns, places = read_page(text)
    named = [each for each in premise.things if each in nouns] or [each for each in nouns if each != premise.hero]
    things = "".join(f" | {json.dumps(f' and {_with_article(each)}')}" for each in named[:_MAX_CHOICES])
    own = () if is_placed and premise.place else places[:_MAX_CHOICES]
    ends = dict.fromkeys(f" {each}." for each in (premise.place, *own) if each)
    heroes = " | ".join(json.dumps(_capital(each)) for each in _names(premise))
    return f'start: ({heroes}) (""{things}) ({" | ".join(map(json.dumps, ends or ["."]))})'


def _start(premise: Premise, *, is_placed: bool) -> str:
    """Return a rule for the start of a sentence, up to the hero."""
    starts = [f"{premise.place}, "] if is_placed and premise.place else _STARTS
    return f"({' | '.join(json.dumps(_capital(each + name)) for each in starts for name in _names(premise))})"


def _names(premise: Premise) -> tuple[str, ...]:
    """Return how a sentence may name the hero."""
    if premise.hero[:1].isupper():
        return (premise.hero,)
    return (f"the {premise.hero}", _with_article(premise.hero))


def _with_article(noun: str) -> str:
    return noun if noun[:1].isupper() else f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
