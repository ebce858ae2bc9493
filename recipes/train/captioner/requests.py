"""The requests that a captioner is trained on and measured with."""

from __future__ import annotations

from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt, read_prompts
from mgem_agent.recipes.nano.eval.world_prompts import make_drawable_prompts
from mgem_agent.recipes.train.captioner.config import RequestFiles
from mgem_agent.user_files import user_path

__all__ = ["read_requests"]

_TRAIN_SEED, _HELD_OUT_SEED = 101, 202


def read_requests(files: RequestFiles) -> tuple[list[EvalPrompt], list[EvalPrompt]]:
    """Return the requests to train on, and those to measure with. No request is in both.

    Args:
        files: The files; without them, requests of nano's world.

    Raises:
        InputError: If a file cannot be read, has too few requests, or a request is in both.
    """
    held_out = _read(files.held_out, "held_out", files.num_held_out, _HELD_OUT_SEED)
    train = _read(files.train, "train", files.num_train, _TRAIN_SEED)
    measured = {_plain(each.prompt) for each in held_out}
    if files.train is None:
        more = make_drawable_prompts(files.num_train + 4 * files.num_held_out, _TRAIN_SEED)
        train = [each for each in more if _plain(each.prompt) not in measured][: files.num_train]
    shared = [each.prompt for each in train if _plain(each.prompt) in measured]
    if shared:
        raise InputError(
            f"{len(shared)} requests are in both files, such as {shared[0]!r}. Remove them from requests.train, or the "
            "figures would be too good."
        )
    return train, held_out


def _read(file: str | None, name: str, num: int, seed: int) -> list[EvalPrompt]:
    found = make_drawable_prompts(num, seed) if file is None else read_prompts(user_path(Path(file)))
    unique = list({_plain(each.prompt): each for each in found}.values())
    if file is not None and len(unique) < num:
        raise InputError(
            f"requests.{name} has {len(unique)} different requests, and requests.num_{name} is {num}. Lower it, or add "
            "requests."
        )
    return unique[:num]


def _plain(prompt: str) -> str:
    return " ".join(prompt.lower().split())
