from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.nano.eval.world_prompts import make_drawable_prompts
from mgem_agent.recipes.train.captioner.config import RequestFiles
from mgem_agent.recipes.train.captioner.requests import read_requests


def written(file: Path, requests: list[EvalPrompt]) -> str:
    file.write_text("".join(each.model_dump_json() + "\n" for each in requests), encoding="utf-8")
    return str(file)


def test_requests_of_nanos_world_are_not_in_both_halves() -> None:
    train, held_out = read_requests(RequestFiles(num_train=200, num_held_out=60), make_drawable_prompts)
    assert (len(train), len(held_out)) == (200, 60)
    assert not {each.prompt for each in train} & {each.prompt for each in held_out}
    fewer, _ = read_requests(RequestFiles(num_train=40, num_held_out=60), make_drawable_prompts)
    assert fewer == train[:40]  # more requests keep those that were drawn


def test_files_of_requests(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    train = written(tmp_path / "train.jsonl", [*requests[:1], *requests[:1]])
    held_out = written(tmp_path / "held_out.jsonl", requests[1:])
    files = RequestFiles(train=train, held_out=held_out, num_train=1, num_held_out=1)
    assert read_requests(files) == (requests[:1], requests[1:])
    with pytest.raises(InputError, match="requests.train has 1 different requests, and requests.num_train is 2"):
        read_requests(files.model_copy(update={"num_train": 2}))


def test_a_request_in_both_files_is_refused(tmp_path: Path, requests: list[EvalPrompt]) -> None:
    train = written(tmp_path / "train.jsonl", requests)
    same = requests[0].model_copy(update={"prompt": "Two  cats"})
    held_out = written(tmp_path / "held_out.jsonl", [same])
    with pytest.raises(InputError, match="1 requests are in both files, such as 'two cats'"):
        read_requests(RequestFiles(train=train, held_out=held_out, num_train=2, num_held_out=1))


def test_without_files_the_option_is_named() -> None:
    with pytest.raises(InputError, match="There is no file of requests. Name one with requests.held_out=FILE"):
        read_requests(RequestFiles())
