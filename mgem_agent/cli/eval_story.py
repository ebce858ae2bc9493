"""`mgem eval story`: draw the stories of ViStoryBench, or score drawn ones, by its measures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mgem_agent.cli.eval_progress import progress_bars
from mgem_agent.cli.printing import echo_json, open_console

if TYPE_CHECKING:
    from mgem_agent.recipes.eval.story.report import StoryReport
    from mgem_agent.recipes.eval.story.vistory import StoryLanguage, VistoryStory
    from mgem_agent.tools.look import Look
    from mgem_agent.workflows import StoryRecipe

__all__ = ["eval_story"]

_MODE = "base"
_WINDOWS_THRESHOLD = 0.75
"""Similarity from which a character counts as found in a window, by the calibration with nano's encoder."""

Report = Callable[[str, int, int], None]


def eval_story(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="[DATASET]", help="ViStoryBench's folder ViStory, or one of its form.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Score the pictures of this run instead of drawing: METHOD/MODE/LANG/TIME."),
    ] = None,
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators")
    ] = "nano",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="A reasoner for what a story leaves out. Default: none."),
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="NAME", help="Encoder of characters: nano, open_clip:MODEL:WEIGHTS or hf:FOLDER.")
    ] = "nano",
    style_encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoder of styles. Default: the encoder of characters.")
    ] = None,
    detector: Annotated[
        str, typer.Option(metavar="NAME", help="Finds characters on a page: windows, or grounding-dino:FOLDER.")
    ] = "windows",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="Similarity from which a character counts as found. Default: 0.75 for windows."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="NAME", help="A chat model that judges alignment. Default: none.")
    ] = None,
    language: Annotated[Literal["en", "ch"], typer.Option(help="Language of the stories.")] = "en",
    num: Annotated[int | None, typer.Option("--num", "-n", min=1, help="Number of stories. Default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the pictures.")] = 0,
    look: Annotated[
        str | None,
        typer.Option(
            metavar="LOOK",
            help="Also draw the stories with page scores in the loop, as mgem story --look does; judged by "
            "--model, else by nano.",
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Score a drawn cast, right and shuffled, to check the encoders.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of stories, outputs and report.")] = Path(
        "eval-story"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
) -> None:
    """Draw the stories of ViStoryBench and score them: CIDS, CSD, OCCM, copy-paste and alignment.

    The pictures are in OUT/outputs/METHOD/base/LANGUAGE/TIME/STORY/shots/, where ViStoryBench's own scorer reads them,
    too. Run the command again to continue. Scores by other encoders than ViStoryBench's are marked as not comparable.
    """
    from mgem_agent.errors import InputError
    from mgem_agent.recipes.eval.story.vistory import read_outputs, read_stories
    from mgem_agent.tools.look import Look
    from mgem_agent.user_files import user_path

    limit = threshold if threshold is not None else _WINDOWS_THRESHOLD if detector == "windows" else 0.0
    scoring = _Scoring(encoder, style_encoder or encoder, detector, limit, judge)
    folder = user_path(out)
    with progress_bars() as report:
        if calibrate:
            reports = _calibrated(scoring, folder / "calibration", num or 2, seed, report)
        elif dataset is None:
            raise InputError(
                "Name a data set: mgem eval story ViStory. Or check the encoders: mgem eval story --calibrate"
            )
        else:
            stories = read_stories(user_path(dataset), language)[:num]
            looks = dict.fromkeys((Look(), Look.parse(look or 0)))  # with a look, also the same without it
            runs = (
                [user_path(pictures)]
                if pictures is not None
                else [_draw(stories, folder, (generator, model, each), language, seed, report) for each in looks]
            )
            reports = {}
            for run in runs:
                name = str(run.relative_to(folder) if run.is_relative_to(folder) else run)
                reports[name] = scoring.report(name, stories, read_outputs(run, stories), report)
    _print(reports, folder, as_json, is_compared=look is not None)


class _Scoring:
    """The scorer, loaded once, with the names of its models."""

    def __init__(self, contents: str, styles: str, detector: str, threshold: float, judge: str | None) -> None:
        from mgem_agent.reasoners import make_reasoner
        from mgem_agent.recipes.eval.story.encoders import make_encoder
        from mgem_agent.recipes.eval.story.regions import make_finder
        from mgem_agent.recipes.eval.story.scoring import StoryScorer
        from mgem_agent.scoring.picture_judge import PictureJudge

        own = make_encoder(contents)
        look = own if styles == contents else make_encoder(styles)
        model = None if judge is None else PictureJudge(make_reasoner(judge, tool_calling="native"))
        self._scorer = StoryScorer(own, look, make_finder(detector), threshold=threshold, judge=model)
        self._facts: dict[str, Any] = {
            "contents": contents, "styles": styles, "detector": detector, "threshold": threshold, "judge": judge,
        }  # fmt: skip

    def report(
        self, method: str, stories: list[VistoryStory], pictures: dict[str, list[Path | None]], report: Report
    ) -> StoryReport:
        """Score the stories that have pictures."""
        import torch

        from mgem_agent.recipes.bench.measure import describe_machine
        from mgem_agent.recipes.eval.story.report import StoryReport

        scores = []
        for story in stories:
            if story.id in pictures:
                bar = f"{method}, story {story.id}"
                scores.append(
                    self._scorer.score(story, pictures[story.id], lambda done, total, bar=bar: report(bar, done, total))  # type: ignore[misc]
                )
        machine = describe_machine(torch.device("cpu"))
        return StoryReport.of(scores, stories, method=method, machine=machine, **self._facts)


def _calibrated(scoring: _Scoring, folder: Path, num: int, seed: int, report: Report) -> dict[str, StoryReport]:
    """Score drawn casts, right and shuffled."""
    from mgem_agent.recipes.nano.eval.story_calibration import calibration_stories, draw_calibration
    from mgem_agent.recipes.nano.world.emoji import EmojiAssets

    assets = EmojiAssets.open()
    stories = calibration_stories(folder, assets, num, seed)
    found = {}
    for name in ("drawn", "shuffled"):
        drawn: dict[str, list[Path | None]] = {
            story.id: [
                *draw_calibration(story, folder / name / story.id, assets, shuffled=name == "shuffled", seed=seed)
            ]
            for story in stories
        }
        found[name] = scoring.report(name, stories, drawn, report)
    return found


def _draw(
    stories: list[VistoryStory],
    folder: Path,
    tools: tuple[str, str | None, Look],
    language: StoryLanguage,
    seed: int,
    report: Report,
) -> Path:
    """Draw the stories with a generator, a reasoner and a look, or continue, and return the run's folder."""
    from mgem_agent.artifacts.store import ArtifactStore
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.eval.story.vistory import outputs_folder, write_outputs
    from mgem_agent.tools.registry import make_generator
    from mgem_agent.workflows.story import STORY_FILE
    from mgem_agent.workflows.storytelling import Storyteller

    generator, model, look = tools
    named = f"mgem-{generator}" + (f"-{look}" if look else "")
    method = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in named)
    begun = sorted((folder / "outputs" / method / _MODE / language).glob("*"))
    stamp = begun[-1].name if begun else datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run = outputs_folder(folder / "outputs", method, _MODE, language, stamp)
    run.mkdir(parents=True, exist_ok=True)
    tool, store = make_generator(generator), ArtifactStore(folder / "pictures")
    reasoner = None if model is None else make_reasoner(model)
    # The encoder of the scores is not in the loop: a figure's judge is another one.
    judge = make_reasoner("nano") if look and reasoner is None else reasoner
    for number, story in enumerate(stories):
        report(f"Stories, {method}", number, len(stories))
        place = folder / "stories" / method / story.id
        teller = Storyteller(reasoner, tool, store, folder=place, look=look, judge=judge)
        told = teller.resume() if (place / STORY_FILE).exists() else teller.run(_recipe_of(story, language, seed))
        write_outputs(
            run, story.id, [None if s.artifact_id is None else store.path(s.artifact_id) for s in told.scenes]
        )
    report(f"Stories, {method}", len(stories), len(stories))
    return run


def _recipe_of(story: VistoryStory, language: StoryLanguage, seed: int) -> StoryRecipe:
    """Return the recipe of a story: its texts are used as they are."""
    from mgem_agent.workflows import CharacterRecipe, SceneRecipe, StoryRecipe

    cast = tuple(
        CharacterRecipe(name=each.name[:60], looks=(each.prompt or each.name)[:600])
        for each in story.characters.values()
    )
    scenes = tuple(
        SceneRecipe(
            title=f"Shot {number}",
            text=shot.plot or shot.script,
            caption=" ".join(text for text in (shot.script, shot.scene, shot.camera) if text)[:1000],
            characters=tuple(story.characters[key].name[:60] for key in shot.characters),
        )
        for number, shot in enumerate(story.shots, start=1)
    )
    return StoryRecipe(
        title=f"Story {story.id}", language="zh" if language == "ch" else "en", style=story.kind[:300], cast=cast,
        scenes=scenes, seed=seed,
    )  # fmt: skip


def _print(reports: dict[str, StoryReport], folder: Path, as_json: bool, *, is_compared: bool) -> None:
    import json

    told: dict[str, Any] = {
        name: {**each.model_dump(mode="json"), "means": each.means()} for name, each in reports.items()
    }
    first, *others = reports.values()
    if is_compared:
        for each in others:
            told[each.method]["gains"] = {
                name: gain and gain.model_dump(mode="json") for name, gain in each.gains(first).items()
            }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if as_json:
        echo_json(told)
        return
    console = open_console()
    for each in reports.values():
        console.print(each.render())
    for each in others if is_compared else ():
        console.print(each.render_gains(first))
