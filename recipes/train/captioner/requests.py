"""The requests that a captioner is trained on and measured with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt, read_prompts
from mgem_agent.recipes.train.captioner.config import RequestFiles
from mgem_agent.user_files import user_path

__all__ = ["RequestMaker", "read_requests"]

RequestMaker = Callable[[int, int], list[EvalPrompt]]
"""From a number and a seed to so many different requests; with a larger number, the first ones are the same."""

_TRAIN_SEED, _HELD_OUT_SEED = 101, 202


def read_requests(files: RequestFiles, make: RequestMaker | None = None) -> tuple[list[EvalPrompt], list[EvalPrompt]]:
    """Return the requests to train on, and those to measure with. No request is in both.

    Args:
        files: The files.
        make: Makes requests where there is no file.

    Raises:
        InputError: If a file is missing, cannot be read or has too few requests, or a request is in both.
    """
    held_out = _read(files.held_out, "held_out", files.num_held_out, _HELD_OUT_SEED, make)
    measured = {_plain(each.prompt) for each in held_out}
    if files.train is None:
        more = _read(None, "train", files.num_train + len(held_out), _TRAIN_SEED, make)
        train = [each for each in more if _plain(each.prompt) not in measured][: files.num_train]
    else:
        train = _read(files.train, "train", files.num_train, _TRAIN_SEED, make)
    shared = [each.prompt for each in train if _plain(each.prompt) in measured]
    if shared:
        raise InputError(
            f"{len(shared)} requests are in both files, such as {shared[0]!r}. Remove them from requests.train, or the "
            "figures would be too good."
        )
    return train, held_out


def _read(file: str | None, name: str, num: int, seed: int, make: RequestMaker | None) -> list[EvalPrompt]:
    if file is None and make is None:
        raise InputError(f"There is no file of requests. Name one with requests.{name}=FILE.")
    found = make(num, seed) if file is None and make is not None else read_prompts(user_path(Path(str(file))))
    unique = list({_plain(each.prompt): each for each in found}.values())
    if file is not None and len(unique) < num:
        raise InputError(
            f"requests.{name} has {len(unique)} different requests, and requests.num_{name} is {num}. Lower it, or add "
            "requests."
        )
    return unique[:num]


def _plain(prompt: str) -> str:
    return " ".join(prompt.lower().split())
