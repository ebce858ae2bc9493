"""`mgem eval drawings`: pictures of captions by the field's scores, and two systems compared by a judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.eval_progress import progress_bars
from mgem_agent.cli.printing import echo_json, open_console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mgem_agent.recipes.eval.drawings.pair_judge import PairResult

__all__ = ["eval_drawings"]


def eval_drawings(
    prompts: Annotated[
        Path,
        typer.Argument(metavar="PROMPTS", help="dataset_coco.json, DrawBench's CSV, LIMA's JSON lines, or a text."),
    ],
    generator: Annotated[
        str, typer.Option("--generator", "-g", metavar="NAME", help="The image generator. List them: mgem generators")
    ] = "nano",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="A reasoner that writes the captions. Default: draw prompts."
        ),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Real pictures, for FID and KID: COCO's val2014.")
    ] = None,
    features: Annotated[
        str,
        typer.Option(metavar="NAME", help="Features of FID: inception, nano, open_clip:MODEL:WEIGHTS or hf:FOLDER."),
    ] = "inception",
    inception_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Inception's weights. Default: download them once.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="CLIP model for CLIP-Score: openai/clip-vit-base-patch16 or a folder."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="NAME", help="A chat model that compares with --against.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pictures of another system: the folder pictures/ of another run."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the features: cpu or cuda.")] = "cpu",
    num: Annotated[int | None, typer.Option("--num", "-n", min=1, help="Number of prompts. Default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of pictures and report.")] = Path("eval-drawings"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
) -> None:
    """Draw prompts, and measure FID, KID, IS and CLIP-Score, or compare with another system by a judge.

    Pictures and judgements are stored: run the command again to continue, or to add a score.
    """
    from mgem_agent.errors import InputError
    from mgem_agent.recipes.eval.drawings.drawn import draw_prompts
    from mgem_agent.recipes.eval.drawings.prompts import read_drawing_prompts
    from mgem_agent.recipes.nano.eval.evaluation import answer_settings
    from mgem_agent.tools.registry import make_generator
    from mgem_agent.user_files import user_path

    if (judge is None) != (against is None):
        raise InputError("A comparison needs both --judge NAME and --against FOLDER.")
    asked = read_drawing_prompts(user_path(prompts))[:num]
    folder = user_path(out)
    settings = {"generator": answer_settings(generator), "reasoner": None if model is None else answer_settings(model)}
    found: dict[str, Any] = {
        "prompts": str(prompts),
        "num_prompts": len(asked),
        "generator": generator,
        "reasoner": model,
    }
    with progress_bars() as bars:
        drawn = draw_prompts(
            asked, make_generator(generator), folder / "pictures", settings, reasoner=_reasoner(model), seed=seed,
            report=lambda done, total: bars(f"Pictures, {generator}", done, total),
        )  # fmt: skip
        pairs = [(file, prompt) for file, prompt in zip(drawn, asked, strict=True) if file is not None]
        found["num_failed"] = len(asked) - len(pairs)
        if real is not None:
            found["fidelity"] = _fidelity(
                [file for file, _ in pairs], user_path(real), features, inception_weights, device, bars
            )
        if clip is not None:
            found["clip"], found["clip_score"] = clip, _clip_score(pairs, clip, device, bars)
        if judge is not None and against is not None:
            found |= {"judge": judge, "against": str(against)}
            found["comparison"] = _compared(judge, asked, drawn, user_path(against), folder, bars).model_dump(
                mode="json"
            )
    _print(found, folder, as_json)


def _reasoner(name: str | None) -> Any:
    from mgem_agent.chat_models.chat_model import GenProtocolModel
    from mgem_agent.errors import InputError
    from mgem_agent.reasoners import make_reasoner

    made = None if name is None else make_reasoner(name, tool_calling="prompt")
    if made is not None and not isinstance(made, GenProtocolModel):
        raise InputError(f"{name!r} does not use the <GEN> protocol. Name a Mini-Gemini model, or a server's model.")
    return made


def _fidelity(
    files: Sequence[Path],
    real: Path,
    features: str,
    weights: Path | None,
    device: str,
    bars: Callable[[str, int, int], None],
) -> dict[str, Any]:
    from mgem_agent.recipes.eval.drawings.fidelity import INCEPTION, measure_fidelity
    from mgem_agent.recipes.eval.story.encoders import make_encoder

    encoder = None if features == INCEPTION else make_encoder(features)
    found = measure_fidelity(
        files, real, encoder, weights=weights, device=device, report=lambda done, total: bars("FID, KID", done, total)
    )
    return found.model_dump(mode="json")


def _clip_score(
    pairs: Sequence[tuple[Path, str]], clip: str, device: str, bars: Callable[[str, int, int], None]
) -> float:
    from mgem_agent.recipes.eval.drawings.fidelity import measure_clip_score

    files, captions = [file for file, _ in pairs], [caption for _, caption in pairs]
    return measure_clip_score(
        files, captions, clip, device=device, report=lambda done, total: bars("CLIP-Score", done, total)
    )


def _compared(
    judge: str,
    prompts: Sequence[str],
    drawn: Sequence[Path | None],
    against: Path,
    folder: Path,
    bars: Callable[[str, int, int], None],
) -> PairResult:
    """Judge the prompts that both systems have drawn."""
    from mgem_agent.errors import InputError
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.eval.answer_log import AnswerLog, state_of
    from mgem_agent.recipes.eval.drawings.drawn import drawn_files
    from mgem_agent.recipes.eval.drawings.pair_judge import PairJudgement, PairResult, judge_pair

    both = [
        (str(number), prompt, ours, theirs)
        for number, (prompt, ours, theirs) in enumerate(zip(prompts, drawn, drawn_files(against, prompts), strict=True))
        if ours is not None and theirs is not None
    ]
    if not both:
        raise InputError(f"{str(against)!r} has no pictures of these prompts: 000000.png, 000001.png and so on.")
    model, judgements = make_reasoner(judge, tool_calling="native"), []
    settings = {"judge": judge, "against": state_of(against)}
    with AnswerLog.open(folder / "judgements.jsonl", settings) as log:
        for done, (key, prompt, ours, theirs) in enumerate(both):
            bars("Comparison", done, len(both))
            if key not in log.answers:
                made = judge_pair(model, prompt, ours, theirs)
                log.add({"id": key, "prompt": prompt, "scores": None if made is None else made.model_dump()})
            scores = log.answers[key]["scores"]
            judgements.append(None if scores is None else PairJudgement.model_validate(scores))
        bars("Comparison", len(both), len(both))
    return PairResult.of(judgements)


def _print(found: dict[str, Any], folder: Path, as_json: bool) -> None:
    import json

    from rich.table import Table
    from rich.text import Text

    (folder / "report.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if as_json:
        echo_json(found)
        return
    console = open_console()
    table = Table("score", "value")
    fidelity, comparison = found.get("fidelity"), found.get("comparison")
    if fidelity:
        table.add_row(f"FID, {fidelity['features']}", f"{fidelity['fid']:.2f}")
        table.add_row(f"KID, {fidelity['features']}", f"{fidelity['kid']:.4f} ± {fidelity['kid_std']:.4f}")
        score = fidelity["inception_score"]
        table.add_row("IS", "–" if score is None else f"{score:.2f}")
    if "clip_score" in found:
        table.add_row(f"CLIP-Score, {found['clip']}", f"{found['clip_score']:.2f}")
    if comparison:
        for aspect, first in comparison["first"].items():
            gap, second = comparison["difference"][aspect], comparison["second"][aspect]
            table.add_row(
                aspect, f"{first['mean']:.2f} against {second['mean']:.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})"
            )
        table.add_row("wins, ties, losses", ", ".join(map(str, comparison["wins"])))
    console.print(table)
    told = f"{found['num_prompts'] - found['num_failed']} pictures of {found['generator']}"
    told += f", captions by {found['reasoner']}." if found["reasoner"] else "."
    if fidelity and fidelity["features"] != "inception":
        told += " FID and KID by other features than Inception's are not comparable with published values."
    if comparison:
        told += f" Judge {found['judge']}, positions swapped; in brackets the 95 % interval of the difference."
    console.print(Text(told))
