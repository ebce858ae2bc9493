"""Generation data on disk: text-only records whose requests to draw have `"draw": true`.

    {"id": "gen-train-0-3", "kind": "recaption", "split": "train",
     "conversations": [{"from": "human", "value": "Draw a fox.", "draw": true},
                       {"from": "gpt", "value": "<h> an orange fox in the snow, soft light </h>"}],
     "answer_kinds": ["draw"], "wanted": [["fox"]]}

The prompt template adds `<GEN>` to a turn with `draw`. Held-out dialogues have questions that are worded otherwise
than those of training, and those with two things have a pair that no training dialogue has.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.recipes.nano.world.generation_dialogues import (
    GenerationTurn,
    choose_generation_kind,
    generation_dialogue,
)
from mgem_agent.recipes.nano.world.holdout_split import is_held_out_pair
from mgem_agent.recipes.nano.world.scene_parts import Split
from mgem_agent.user_files import user_path

__all__ = ["GenerationDataSettings", "generation_record", "write_generation"]

_VERSIONS: dict[Split, int] = {"train": 2, "held_out": 3}  # increase one when the same settings give other records


@dataclass(frozen=True)
class GenerationDataSettings:
    """Settings of a series of dialogues: the split and the seed."""

    split: Split = "train"
    seed: int = 0


def generation_record(index: int, settings: GenerationDataSettings) -> dict[str, Any]:
    """Return the record of a dialogue.

    Args:
        index: Index in the series, from 0.
        settings: Settings of the series.
    """
    rng = random.Random(f"generation/{settings.seed}/{settings.split}/{index}")
    kind = choose_generation_kind(rng)
    turns = generation_dialogue(kind, rng, settings.split)
    while not _belongs(turns, settings.split):
        turns = generation_dialogue(kind, rng, settings.split)
    conversations: list[dict[str, Any]] = []
    for turn in turns:
        conversations.append({"from": "human", "value": turn.question, **({"draw": True} if turn.draw else {})})
        conversations.append({"from": "gpt", "value": turn.answer})
    return {
        "id": f"gen-{settings.split}-{settings.seed}-{index}",
        "kind": kind,
        "split": settings.split,
        "conversations": conversations,
        "answer_kinds": ["draw" if "<h>" in turn.answer else "text" for turn in turns],
        "wanted": [list(turn.wanted) for turn in turns],
    }


def _belongs(turns: tuple[GenerationTurn, ...], split: Split) -> bool:
    wanted = sorted({name for turn in turns for name in turn.wanted})
    pairs = list(itertools.combinations(wanted, 2))
    has_held_out = any(is_held_out_pair(*pair) for pair in pairs)
    return has_held_out == (split == "held_out") if pairs else True


def write_generation(folder: str | Path, num_dialogues: int, settings: GenerationDataSettings | None = None) -> Path:
    """Write dialogues as records; existing ones are kept.

    Args:
        folder: Folder of `generation_SPLIT.jsonl`.
        num_dialogues: Total number of dialogues.
        settings: Settings of the series.

    Returns:
        The file of records.

    Raises:
        InputError: If the number is too small, or the file holds records of other settings.
    """
    settings = settings or GenerationDataSettings()
    if num_dialogues < 1:
        raise InputError(f"{num_dialogues} dialogues cannot be made. Give 1 or more.")
    path = user_path(folder) / f"generation_{settings.split}.jsonl"
    with RecordWriter.open(path, {**asdict(settings), "version": _VERSIONS[settings.split]}) as writer:
        for index in range(writer.num_records, num_dialogues):
            writer.write(generation_record(index, settings))
    return path
