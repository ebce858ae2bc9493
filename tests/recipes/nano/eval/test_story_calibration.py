"""Shuffled casts score lower: the measures of stories tell the right character from another, with nano's encoder."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from langchain_core.messages import HumanMessage
from PIL import Image, ImageDraw
from rich.console import Console

from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.story.encoders import PictureEncoder, make_encoder
from mgem_agent.recipes.eval.story.regions import windows
from mgem_agent.recipes.eval.story.report import StoryReport
from mgem_agent.recipes.eval.story.scoring import StoryScorer
from mgem_agent.recipes.eval.story.vistory import VistoryStory
from mgem_agent.recipes.nano.eval.story_calibration import CAST, calibration_stories, draw_calibration
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.scoring.picture_judge import PictureJudge

LOOKS = {"fox": ("polygon", "orange"), "frog": ("ellipse", "green"), "penguin": ("rectangle", "black")}


class HalfSure:
    """A judge's model that answers every question with half a yes."""

    can_write = False

    def ask(self, message: HumanMessage) -> str:
        return ""

    def probability_of_yes(self, message: HumanMessage) -> float:
        return 0.5


@pytest.fixture(scope="module")
def cast() -> EmojiAssets:
    """Shapes in the place of the emoji of the cast."""
    pictures = {}
    for name in CAST:
        shape, colour = LOOKS[name]
        picture = Image.new("RGBA", (256, 256))
        place = [(20, 240), (236, 240), (128, 10)] if shape == "polygon" else [(20, 20), (236, 236)]
        getattr(ImageDraw.Draw(picture), shape)(place, fill=colour)
        file = io.BytesIO()
        picture.save(file, "PNG")
        pictures[name] = file.getvalue()
    return EmojiAssets(load_concepts(), pictures)


@pytest.fixture(scope="module")
def encoder() -> PictureEncoder:
    return make_encoder("nano")


@pytest.fixture
def story(cast: EmojiAssets, tmp_path: Path) -> VistoryStory:
    return calibration_stories(tmp_path, cast)[0]


def test_shuffled_casts_score_lower(
    cast: EmojiAssets, encoder: PictureEncoder, story: VistoryStory, tmp_path: Path
) -> None:
    scorer = StoryScorer(encoder, encoder, windows, threshold=0.75)
    right, wrong = (
        scorer.score(story, draw_calibration(story, tmp_path / str(shuffled), cast, shuffled=shuffled))
        for shuffled in (False, True)
    )
    assert right.cids_cross > wrong.cids_cross + 0.03
    assert right.occm > wrong.occm
    assert right.cids_self > 0.7 and 0 < right.csd_self <= 1
    assert right.copy_paste is not None and right.alignment is None


def test_missing_pages_count_as_without_characters(
    cast: EmojiAssets, encoder: PictureEncoder, story: VistoryStory, tmp_path: Path
) -> None:
    pages = draw_calibration(story, tmp_path / "pages", cast, shuffled=False)
    judge = PictureJudge(HalfSure())
    scorer = StoryScorer(encoder, encoder, windows, judge=judge)
    some = scorer.score(story, [pages[0], *[None] * (len(pages) - 1)])
    assert some.num_missing == 5 and some.occm < 60
    assert some.alignment == {"scene": pytest.approx(2 / 6), "character_action": pytest.approx(2 / 6)}
    facts = {
        "method": "m",
        "styles": "nano",
        "threshold": 0.0,
        "judge": "j",
        "machine": describe_machine(torch.device("cpu")),
    }
    report = StoryReport.of([some], [story], contents="nano", detector="windows", **facts)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.render())
    assert "not comparable with its published scores: CIDS cross, CIDS self" in capture.get()
    official = StoryReport.of(
        [some], [story], contents="hf:openai/clip-vit-large-patch14", detector="grounding-dino:x", **facts
    )
    assert "cids_cross" in official.comparable and "csd_self" not in official.comparable
    assert report.means()["occm"] == some.occm
