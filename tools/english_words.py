"""English words in captions that do not name a thing or a place.

They separate nouns that a small model does not know, which a notice reports, from words that any caption may have.
"""

from __future__ import annotations

__all__ = ["COLOURS", "FUNCTION_WORDS", "MANY", "NEGATIONS", "NUMBERS", "PLACE_WORDS", "PLAIN_PHRASES", "PLAIN_WORDS"]

COLOURS = frozenset(
    "red orange yellow green blue purple violet pink brown black white grey gray golden gold silver turquoise "
    "colourful colorful rainbow-coloured".split()
)

NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "dozen": 12,
    "both": 2,
}  # fmt: skip
"""Numbers above one."""

MANY = frozenset("several many some few lots herd flock group couple pair hundreds thousands countless".split())
"""Words for more than one without a number."""

NEGATIONS = frozenset({"no", "without", "not", "never"})
"""The thing named after one of these must not be drawn."""

PLACE_WORDS = frozenset("in on at by with under over near behind before but".split())
"""After one of these, the caption names something else."""

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those its his her their our my your it he she they we i you who which what there here
    and or but as so than then while when where
    of in on at by to from with over under above below behind before after near next beside besides between among into
    onto out off up down for around across along through against inside outside within toward towards front left right
    top bottom side middle centre center other another one each every all any more most very too just only also both
    is are was were be been being am has have had do does did can could will would may might must shall should
    himself herself itself themselves him them us me
    """.split()
)
"""Words that name nothing."""

PLAIN_WORDS = frozenset(
    """
    picture pictures image illustration drawing photo photograph painting art artwork style book children storybook
    children's kids cartoon watercolour watercolor cinematic scene view shot close closeup close-up portrait subject
    background backdrop colour colours color colors coloured light lighting lit sunlight sunny warm soft bright clear
    clean simple smooth glossy detailed highly 3d minimal cheerful cute happy lovely beautiful pretty nice friendly
    cosy cozy funny sweet charming adorable gentle calm peaceful quiet joyful magical magic whimsical dreamy
    small little tiny big large huge great giant tall short long wide high low deep old young new fresh round
    good single lone lonely alone plain wooden fluffy shiny fuzzy furry striped spotted
    standing sitting lying resting sleeping looking smiling living being waiting shown seen standing floating
    stands sits lies rests sleeps looks smiles waits
    morning day daytime evening clouds cloudy
    eye eyes ear ears nose tail tails wing wings fur feathers paw paws hair
    """.split()
)
"""Words of style, size, mood, posture and body. No notice reports that a picture lacks them."""

PLAIN_PHRASES = frozenset(
    tuple(phrase.split())
    for phrase in (
        "children's book", "picture book", "story book", "comic book", "colouring book", "book illustration",
        "oil painting", "pencil drawing", "paper cut", "depth of field", "golden hour",
    )
)  # fmt: skip
"""Styles whose single words would name things."""
