"""Scoring a picture against its caption: yes/no questions made from the caption, asked of the picture."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.scoring.caption_atoms import AtomKind, CaptionAtom, CaptionReading, read_atoms
    from mgem_agent.scoring.picture_judge import PictureJudge
    from mgem_agent.scoring.picture_score import AtomAnswer, PictureScore

__all__ = ["AtomAnswer", "AtomKind", "CaptionAtom", "CaptionReading", "PictureJudge", "PictureScore", "read_atoms"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AtomAnswer": "mgem_agent.scoring.picture_score",
        "AtomKind": "mgem_agent.scoring.caption_atoms",
        "CaptionAtom": "mgem_agent.scoring.caption_atoms",
        "CaptionReading": "mgem_agent.scoring.caption_atoms",
        "PictureJudge": "mgem_agent.scoring.picture_judge",
        "PictureScore": "mgem_agent.scoring.picture_score",
        "read_atoms": "mgem_agent.scoring.caption_atoms",
    },
)
