"""A captioner's training from requests to figures; every step is stored, and the same command resumes.

| in OUTPUT | contents |
| --- | --- |
| `train/` | captions, pictures and scores of the requests to train on; with GRPO, its rewards |
| `pairs.jsonl` | the pairs (DPO) |
| `model/` | the trained model, for `from_pretrained` |
| `before/`, `after/` | captions, pictures and scores of held-out requests; answers about held-out scenes |
| `report.json` | the figures |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.core_model.cpu_decoding import enable_cpu_decoding
from mgem_agent.errors import InputError
from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
from mgem_agent.nano.vision_language import VLM_WEIGHTS
from mgem_agent.recipes.bench.measure import describe_machine
from mgem_agent.recipes.eval.agent.figure_judge import FigureJudge, make_figure_judge
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.answer_log import state_of
from mgem_agent.recipes.train.captioner.config import CaptionerConfig
from mgem_agent.recipes.train.captioner.drawn_captions import CaptionPlan, DrawnCaption, DrawnCaptions, Progress
from mgem_agent.recipes.train.captioner.groups import PictureReward, train_groups
from mgem_agent.recipes.train.captioner.pairs import CaptionPair, choose_pairs
from mgem_agent.recipes.train.captioner.preference import train_preferences
from mgem_agent.recipes.train.captioner.report import CaptionerReport, Measured
from mgem_agent.recipes.train.captioner.requests import RequestMaker, read_requests
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import NANO, load_model
from mgem_agent.recipes.train.precision import training_dtype
from mgem_agent.tools.registry import make_generator
from mgem_agent.user_files import user_path

__all__ = ["MODEL_FOLDER", "CaptionerTools", "Method", "open_captioner", "train_captioner"]

Method = Literal["DPO", "GRPO"]

Understanding = Callable[[str, Path, int, Callable[[int, int], None]], list[float]]
"""From a model, a file of answers, a number of questions of each kind and a report of progress to 1 for each right
answer and 0 for each wrong one, in the same order for every model."""


@dataclass(frozen=True)
class CaptionerTools:
    """What a training uses that depends on the world of its pictures.

    Args:
        open_judge: Opens a judge by its name and the interpreter of VQAScore.
        make_requests: Makes requests where the configuration names no files.
        understand: Asks questions about pictures; None for no such measure.
    """

    open_judge: Callable[[str, Path | None], FigureJudge] = make_figure_judge
    make_requests: RequestMaker | None = None
    understand: Understanding | None = None


MODEL_FOLDER = "model"
_SETTINGS_FILE = "settings.json"


def train_captioner(
    config: CaptionerConfig,
    *,
    method: Method = "DPO",
    tools: CaptionerTools | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> CaptionerReport:
    """Sample, draw and score captions, train on them, and measure; what is stored is not made again.

    Args:
        config: The training.
        tools: What depends on the world of its pictures.
        method: DPO on the best and the worst caption of each request, or GRPO on groups that are sampled on the way.
        progress: Called with the step, the number done and the total.
        say: Called with messages.

    Returns:
        The figures, which are also in `report.json`.

    Raises:
        InputError: If the folder holds another training, the requests are not usable, or the judge is the reward.
        MissingDependencyError: If TRL is not installed.
        MgemError: If a model, the generator or a judge fails. What is stored is kept.
    """
    _check_judge(config)
    folder = user_path(config.folder)
    _claim(folder, config, method)
    tools = tools or CaptionerTools()
    train, held_out = read_requests(config.requests, tools.make_requests)
    sampling = config.sampling
    model = folder / MODEL_FOLDER
    num_pairs: int | None = None
    if method == "DPO":
        num_pairs = _train_on_pairs(config, tools, train, folder, progress, say)
    elif not model.is_dir():
        train_groups(config, train, _reward(config, tools, train, folder / "train"), model, say)
    greedy = CaptionPlan(1, sampling.pictures, sampling.temperature, sampling.max_tokens, sampling.seed)
    rows: list[list[DrawnCaption]] = []
    for name, weights in (("before", config.model), ("after", str(model))):
        found = _drawn(folder / name, held_out, greedy, config, tools, weights, config.judge, progress)
        rows.append([captions[0] for captions in found])
    report = CaptionerReport(
        method=method,
        model=config.model,
        generator=config.generator,
        reward=config.reward,
        judge=config.judge,
        num_requests=len(train),
        num_captions=sampling.captions,
        num_pairs=num_pairs,
        kept=CaptionerReport.kept_of(*rows),
        skills=CaptionerReport.skills_of(held_out, *rows),
        understanding=_understanding(config, tools, folder, progress),
        machine=describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    )
    (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return report


def _train_on_pairs(
    config: CaptionerConfig,
    tools: CaptionerTools,
    requests: Sequence[EvalPrompt],
    folder: Path,
    progress: Progress,
    say: Callable[[str], None],
) -> int:
    """Make pairs of captions and train on them; return the number of pairs."""
    sampling = config.sampling
    plan = CaptionPlan(sampling.captions, sampling.pictures, sampling.temperature, sampling.max_tokens, sampling.seed)
    drawn = _drawn(folder / "train", requests, plan, config, tools, config.model, config.reward, progress)
    pairs = choose_pairs(drawn, config.margin)
    _write_pairs(folder / "pairs.jsonl", pairs)
    say(f"{len(pairs)} pairs from {len(requests)} requests")
    if not (folder / MODEL_FOLDER).is_dir():
        train_preferences(config, pairs, folder / MODEL_FOLDER, say)
    return len(pairs)


def _reward(
    config: CaptionerConfig, tools: CaptionerTools, requests: Sequence[EvalPrompt], folder: Path
) -> PictureReward:
    folder.mkdir(parents=True, exist_ok=True)
    generator, judge = make_generator(config.generator), _open_judge(config, tools, config.reward)
    sampling = config.sampling
    return PictureReward(requests, generator, judge, folder, num_pictures=sampling.pictures, seed=sampling.seed)


def _open_judge(config: CaptionerConfig, tools: CaptionerTools, name: str) -> FigureJudge:
    is_whole = config.judge_python is not None and name.startswith("vqascore:")
    return tools.open_judge(name, user_path(str(config.judge_python)) if is_whole else None)


def open_captioner(name: str) -> ChatMiniGemini:
    """Load a core model as a chat model, with fast decoding on a CPU.

    Args:
        name: `nano`, a folder, or a hub id.

    Raises:
        CheckpointError: If its weights are missing or do not fit.
    """
    dtype = training_dtype("auto") if torch.cuda.is_available() else torch.float32
    model, processor = load_model(ModelConfig(checkpoint=name), dtype)
    if torch.cuda.is_available():
        cast(Any, model).to("cuda")
    else:
        enable_cpu_decoding(model)
    return ChatMiniGemini(model=model.eval(), processor=processor)


def _drawn(
    folder: Path,
    requests: Sequence[EvalPrompt],
    plan: CaptionPlan,
    config: CaptionerConfig,
    tools: CaptionerTools,
    weights: str,
    judge: str,
    progress: Progress,
) -> list[list[DrawnCaption]]:
    """Sample, draw and score captions of requests in a folder."""
    captions = DrawnCaptions(
        folder, requests, plan, lambda what, done, total: progress(f"{what}, {folder.name}", done, total)
    )
    settings: Mapping[str, Any] = {"model": _state(weights)}
    captions.sample(lambda: open_captioner(weights), settings)
    settings = {**settings, "generator": _state(config.generator)}
    captions.draw(lambda: make_generator(config.generator), settings)
    captions.score(lambda: _open_judge(config, tools, judge), {**settings, "judge": _state(judge)})
    return captions.records()


def _state(name: str) -> dict[str, Any]:
    """Return the name of a model or generator, and the state of its weights if they are local."""
    plain = name.removeprefix("scene:").removeprefix("diffusers:")
    if plain == NANO:
        return {"name": name, "weights": [state_of(VLM_WEIGHTS), state_of(DIFFUSION_WEIGHTS)]}
    return {"name": name, "weights": state_of(plain)}


def _understanding(config: CaptionerConfig, tools: CaptionerTools, folder: Path, progress: Progress) -> Measured | None:
    """Return the right answers about held-out scenes before and after."""
    if not config.understanding or tools.understand is None:
        return None
    verdicts = []
    for name, weights in (("before", config.model), ("after", str(folder / MODEL_FOLDER))):

        def report(done: int, total: int, what: str = f"understanding, {name}") -> None:
            progress(what, done, total)

        verdicts.append(tools.understand(weights, folder / name / "answers.jsonl", config.understanding, report))
    return Measured.of(*verdicts)


def _check_judge(config: CaptionerConfig) -> None:
    if config.judge == config.reward and not config.same_judge:
        raise InputError(
            f"The judge of the figure, {config.judge!r}, is also the reward of the training, which would favour the "
            "trained model. Name another model with judge=NAME, or set same_judge=true; the report then says so."
        )


def _claim(folder: Path, config: CaptionerConfig, method: Method) -> None:
    """Store the settings in the folder, unless it holds another training."""
    file = folder / _SETTINGS_FILE
    settings = {**config.result_settings(), "method": method, "weights": _state(config.model)["weights"]}
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        differing = sorted(name for name in settings if before.get(name) != json.loads(json.dumps(settings[name])))
        if differing:
            lines = "\n".join(f"  {name}: {before.get(name)!r} before, {settings[name]!r} now" for name in differing)
            raise InputError(
                f"The folder {str(folder)!r} holds another training, which these settings would change:\n{lines}\n"
                "Give another output, or the earlier settings to resume it."
            )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _write_pairs(file: Path, pairs: Sequence[CaptionPair]) -> None:
    lines = [json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
