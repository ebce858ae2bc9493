"""The evaluation: its parts one after another, and one report of them all.

A folder has `report.json`, `contact_sheet.png`, `pictures/` and all answers. Stored answers are reused. Answers of
other weights, names or seeds are refused rather than mixed.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.errors import InputError
from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
from mgem_agent.nano.vision_language import VLM_WEIGHTS
from mgem_agent.reasoners import make_reasoner
from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.answer_log import state_of
from mgem_agent.recipes.nano.eval.concept_namer import ConceptNamer
from mgem_agent.recipes.nano.eval.drawing_protocol import DrawingProtocol, measure_drawing
from mgem_agent.recipes.nano.eval.generated_pictures import (
    GeneratedPictures,
    draw_captions,
    draw_real,
    measure_recognition,
    name_pictures,
    write_contact_sheet,
)
from mgem_agent.recipes.nano.eval.picture_variety import measure_variety
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.seeing_model import SeeingModel, find_weights, loading_options
from mgem_agent.recipes.nano.eval.understanding import Understanding, measure_understanding
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.tools.registry import make_generator
from mgem_agent.user_files import user_path

__all__ = ["EVAL_PARTS", "REPORT_FILE", "EvalPart", "EvalPlan", "Progress", "answer_settings", "evaluate"]

EvalPart = Literal["understanding", "drawing", "pictures"]
EVAL_PARTS: tuple[EvalPart, ...] = ("understanding", "drawing", "pictures")
"""Questions about pictures; drawing by a reasoner; pictures of a generator."""

REPORT_FILE = "report.json"

Progress = Callable[[str, int, int], None]
"""Called with the current part, the number done and the total."""


@dataclass(frozen=True)
class EvalPlan:
    """Settings of an evaluation.

    Args:
        out: Folder of answers, pictures and the report.
        parts: Parts to measure.
        model: A Mini-Gemini model: `nano`, a folder or a hub id; for `drawing` alone any reasoner. It also judges
            generated pictures.
        without_hr: A baseline trained on low-resolution pictures, which it is shown; or None.
        generator: Name of the generator, for `make_generator`.
        clip: Folder of a CLIP model that names things in pictures, too; or None.
        num: Number of questions of each kind, of turns with and without a request to draw, and of pictures.
        seed: Seed of scenes, dialogues and pictures.
        batch_size: Batch size of questions about pictures.
    """

    out: Path
    parts: tuple[EvalPart, ...] = EVAL_PARTS
    model: str = "nano"
    without_hr: str | None = None
    generator: str = "nano"
    clip: Path | None = None
    num: int = 100
    seed: int = 0
    batch_size: int = 16


def evaluate(
    plan: EvalPlan,
    open_assets: Callable[[], EmojiAssets],
    report: Progress = lambda what, done, total: None,
) -> EvalReport:
    """Measure, write `report.json`, and return it.

    Args:
        plan: The settings.
        open_assets: Opens the emoji set when scenes are rendered.
        report: Called with the progress.

    Raises:
        InputError: If a name is unknown, or the folder has answers of other settings.
        CheckpointError: If weights are missing, or do not fit.
        GeneratorUnavailableError: If the generator cannot draw.
    """
    file = user_path(plan.out) / REPORT_FILE
    earlier = EvalReport.read(file) if file.is_file() else None
    found: dict[str, Any] = {}
    makers: dict[EvalPart, Callable[[], Any]] = {
        "understanding": lambda: _understanding(plan, open_assets(), report),
        "drawing": lambda: _drawing(plan, report),
        "pictures": lambda: _pictures(plan, open_assets(), report),
    }
    machine = describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    made = EvalReport(seed=plan.seed, machine=machine)
    for part in EVAL_PARTS:
        if part in plan.parts:
            found[part] = makers[part]()
            gc.collect()  # free the model of one part before the next
            made = EvalReport(seed=plan.seed, machine=machine, **found)
            made = made if earlier is None else made.with_parts_of(earlier)
            made.write(file)
    return made


def _understanding(plan: EvalPlan, assets: EmojiAssets, report: Progress) -> tuple[Understanding, ...]:
    return tuple(
        _understanding_of(plan, name, assets, report, low_res_only=low_res_only)
        for name, low_res_only in ((plan.model, False), (plan.without_hr, True))
        if name is not None
    )


def _understanding_of(
    plan: EvalPlan, name: str, assets: EmojiAssets, report: Progress, *, low_res_only: bool
) -> Understanding:
    title = f"{name}, LR only" if low_res_only else name
    kinds, doubted = measure_understanding(
        SeeingModel.open(name, low_res_only=low_res_only),
        assets,
        user_path(plan.out) / ("answers_without_hr.jsonl" if low_res_only else "answers.jsonl"),
        answer_settings(name),
        num=plan.num,
        seed=plan.seed,
        batch_size=plan.batch_size,
        report=lambda done, total: report(f"Questions, {title}", done, total),
    )
    return Understanding(model=name, without_hr=low_res_only, kinds=kinds, doubted=doubted)


def _drawing(plan: EvalPlan, report: Progress) -> DrawingProtocol:
    asked, told = measure_drawing(
        _reasoner(plan.model),
        user_path(plan.out) / "drawing.jsonl",
        answer_settings(plan.model),
        num=plan.num,
        seed=plan.seed,
        report=lambda done, total: report(f"Turns, {plan.model}", done, total),
    )
    return DrawingProtocol(model=plan.model, asked=asked, told=told)


def _reasoner(name: str) -> GenProtocolModel:
    if user_path(name).is_dir():
        reasoner = make_reasoner(find_weights(name), model_options=loading_options())
    else:
        reasoner = make_reasoner(name, tool_calling="prompt")
    if not isinstance(reasoner, GenProtocolModel):
        raise InputError(f"{name!r} does not use the <GEN> protocol. Name a Mini-Gemini model, or a server's model.")
    return reasoner


def _pictures(plan: EvalPlan, assets: EmojiAssets, report: Progress) -> GeneratedPictures:
    namer = None if plan.clip is None else ConceptNamer.open(plan.clip)  # before hours of drawing
    out = user_path(plan.out)
    generator = make_generator(plan.generator)
    drawn = draw_captions(
        generator,
        out / "pictures",
        answer_settings(plan.generator),
        num=plan.num,
        seed=plan.seed,
        report=lambda done, total: report(f"Pictures, {plan.generator}", done, total),
    )
    counts: dict[str, Any] = {
        "generator": plan.generator,
        "num_pictures": len(drawn),
        "num_failed": plan.num - len(drawn),
    }
    if not drawn:
        return GeneratedPictures(**counts)
    pictures = []
    for each in drawn:
        with Image.open(each.file) as picture:
            pictures.append(picture.convert("RGB"))
    counts |= {
        "size_px": pictures[0].size,
        "seconds_per_picture": statistics.median(each.seconds for each in drawn),
        "contact_sheet": str(write_contact_sheet(drawn, out / "contact_sheet.png")),
    }
    scenes = [each.scene for each in drawn]
    real = draw_real(drawn, assets, min(pictures[0].size))
    model = SeeingModel.open(plan.model)
    for name, shown, what in (("seen", pictures, "generated pictures"), ("seen_real", real, "scenes")):
        told = measure_recognition(model, shown, scenes, partial(report, f"Questions about {what}, {plan.model}"))
        counts |= {"seen_by": plan.model, name: told}
    if generator.capabilities.seed:
        counts["variety"] = measure_variety(
            generator, model, assets, seed=plan.seed, report=partial(report, f"Pictures by seed, {plan.generator}")
        )
    if namer is not None:
        counts |= {
            "clip": str(plan.clip),
            "generated": name_pictures(namer, pictures, scenes),
            "real": name_pictures(namer, real, scenes),
        }
    return GeneratedPictures(**counts)


def answer_settings(name: str) -> Mapping[str, Any]:
    """Return the name of a model or generator, and the state of its weights if they are local.

    Args:
        name: Name of a model or generator.
    """
    if name == "nano":
        return {"name": name, "weights": [state_of(VLM_WEIGHTS), state_of(DIFFUSION_WEIGHTS)]}
    return {"name": name, "weights": state_of(name.removeprefix("diffusers:"))}
