"""Score the pictures of stories: characters, style, cast and alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.recipes.eval.story.encoders import PictureEncoder
from mgem_agent.recipes.eval.story.measures import (
    copy_rate,
    cross_similarity,
    mean_or_zero,
    occm,
    self_similarity,
)
from mgem_agent.recipes.eval.story.regions import RegionFinder, assign
from mgem_agent.recipes.eval.story.vistory import VistoryStory
from mgem_agent.scoring.picture_judge import PictureJudge

__all__ = ["StoryScore", "StoryScorer"]


class StoryScore(BaseModel):
    """Scores of a story, by ViStoryBench's names.

    Attributes:
        story: Its id.
        cids_cross: Similarity of characters to their references.
        cids_self: Similarity of each character between pages.
        csd_cross: Similarity of style to the reference of each page's first character.
        csd_self: Similarity of style between pages.
        occm: On-stage character count matching, up to 100.
        copy_paste: Copy-paste score; None if no character has two references.
        alignment: From 0 to 4, how pages follow their scene and their script; None without a judge.
        num_missing: Shots without a picture.
    """

    model_config = ConfigDict(frozen=True)

    story: str
    cids_cross: float
    cids_self: float
    csd_cross: float
    csd_self: float
    occm: float
    copy_paste: float | None = None
    alignment: dict[str, float] | None = None
    num_missing: int = 0


class StoryScorer:
    """Scores stories with chosen encoders.

    Args:
        contents: Encoder of characters.
        styles: Encoder of styles.
        finder: Finds regions in which a character may be.
        threshold: Smallest similarity of a character that is found.
        judge: Judge of alignment, or None.
    """

    def __init__(
        self,
        contents: PictureEncoder,
        styles: PictureEncoder,
        finder: RegionFinder,
        *,
        threshold: float = 0.0,
        judge: PictureJudge | None = None,
    ) -> None:
        self._contents = contents
        self._styles = styles
        self._finder = finder
        self._threshold = threshold
        self._judge = judge

    def score(
        self,
        story: VistoryStory,
        pictures: Sequence[Path | None],
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> StoryScore:
        """Score a story.

        Args:
            story: The story.
            pictures: The picture of each shot; None where it is missing, which counts as without characters.
            report: Called with the number of pages done and the total.

        Raises:
            ImageError: If a picture cannot be read.
            MgemError: If the judge fails.
        """
        references = {key: self._references(each.images) for key, each in story.characters.items()}
        drawn: dict[str, list[Tensor]] = {key: [] for key in references}
        matching: list[float] = []
        for number, (shot, file) in enumerate(zip(story.shots, pictures, strict=True)):
            report(number, len(story.shots))
            keys = list(dict.fromkeys(shot.characters))
            found = {} if file is None else self._found(load_image(file), {key: references[key] for key in keys})
            for key, features in found.items():
                drawn[key].append(features)
            matching.append(occm(len(found), len(keys)))
        report(len(story.shots), len(story.shots))
        shown = {key for shot in story.shots for key in shot.characters}
        rows = {key: torch.stack(features) for key, features in drawn.items() if features}
        rates = [rate for key, row in rows.items() if (rate := copy_rate(row, references[key])) is not None]
        csd_cross, csd_self = self._style(story, pictures)
        return StoryScore(
            story=story.id,
            cids_cross=mean_or_zero([cross_similarity(rows[k], references[k]) if k in rows else 0.0 for k in shown]),
            cids_self=mean_or_zero([self_similarity(rows[key]) if key in rows else 0.0 for key in shown]),
            csd_cross=csd_cross,
            csd_self=csd_self,
            occm=mean_or_zero(matching),
            copy_paste=mean_or_zero(rates) if rates else None,
            alignment=self._alignment(story, pictures),
            num_missing=sum(file is None for file in pictures),
        )

    def _references(self, files: Sequence[Path]) -> Tensor:
        """Return the features (r, d) of reference pictures."""
        return self._contents.contents([load_image(file) for file in files])

    def _found(self, page: Image.Image, references: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features (d) of the region of each character that is found."""
        if not references:
            return {}
        boxes = self._finder(page, len(references))
        if not boxes:
            return {}
        features = self._contents.contents([page.crop(box) for box in boxes])
        alike = {key: (features @ rows.T).max(1).values for key, rows in references.items()}
        return {key: features[place] for key, place in assign(alike, boxes, self._threshold).items()}

    def _style(self, story: VistoryStory, pictures: Sequence[Path | None]) -> tuple[float, float]:
        places = [place for place, file in enumerate(pictures) if file is not None]
        if not places:
            return 0.0, 0.0
        pages = self._styles.styles([load_image(pictures[place]) for place in places])
        first = next(iter(story.characters))
        heroes = [story.characters[next(iter(story.shots[place].characters), first)] for place in places]
        known = self._styles.styles([load_image(hero.images[0]) for hero in heroes])
        own = self_similarity(pages) if len(pages) > 1 else 0.0
        return float((pages * known).sum(-1).mean()), own

    def _alignment(self, story: VistoryStory, pictures: Sequence[Path | None]) -> dict[str, float] | None:
        if self._judge is None:
            return None
        found: dict[str, list[float]] = {"scene": [], "character_action": []}
        for shot, file in zip(story.shots, pictures, strict=True):
            for name, text in (("scene", shot.scene), ("character_action", shot.script)):
                if text.strip():
                    score = None if file is None else self._judge.score(file, text).score
                    found[name].append(4 * (score or 0.0))
        return {name: mean_or_zero(scores) for name, scores in found.items() if scores}
