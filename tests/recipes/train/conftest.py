"""A tiny model on disk, pictures and records, and the configuration of a run over them."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import runpy
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.train.config import TrainConfig

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are quickest on one thread, most of all where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model of 16 visual tokens an image, with its processor."""
    torch.manual_seed(0)
    config = MiniGeminiConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 512,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        high_res_vision_config={
            "hidden_sizes": [4, 8, 12, 16],
            "depths": [1, 1, 2, 1],
            "layer_scale_init_value": 0.5,
        },
        high_res_image_size=64,
        image_token_id=100,
        prompt_template="chatml",
    )
    folder = tmp_path_factory.mktemp("model")
    MiniGeminiForConditionalGeneration(config).save_pretrained(folder)
    MiniGeminiProcessor.from_model_config(config, tokenizer).save_pretrained(folder)
    return folder


def records() -> list[dict[str, Any]]:
    """Eight records about pictures and four of text alone."""
    seen: list[dict[str, Any]] = [
        {
            "id": str(index),
            "image": f"{COLOURS[index % 4]}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?" + "?" * index},
                {"from": "gpt", "value": f"It is {COLOURS[index % 4]}."},
            ],
        }
        for index in range(8)
    ]
    told = [
        {
            "id": f"t{index}",
            "conversations": [
                {"from": "human", "value": "Say hello." * (index + 1), "draw": index % 2 == 1},
                {"from": "gpt", "value": "<h> hello </h>"},
            ],
        }
        for index in range(4)
    ]
    return seen + told


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records as JSON lines, with their pictures beside them."""
    folder = tmp_path_factory.mktemp("data")
    for colour in COLOURS:
        Image.new("RGB", (20, 16), colour).save(folder / f"{colour}.png")
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records()), encoding="utf-8")
    return file


@pytest.fixture
def settings(model_folder: Path, data_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of six steps as plain values."""
    return {
        "stage": "instruct",
        "model": {"checkpoint": str(model_folder), "prompt_template": "chatml"},
        "train": {"llm": "lora", "lora": {"rank": 2, "dropout": 0.1}},
        "data": {"sources": [{"path": str(data_file)}], "max_length": 256},
        "optimizer": {"learning_rate": 1e-2},
        "run": {
            "output": str(tmp_path / "run"),
            "max_steps": 6,
            "global_batch": 4,
            "micro_batch": 2,
            "precision": "fp32",
            "log_every": 1,
            "checkpoint_every": 2,
        },
    }


@pytest.fixture
def make_run(settings: dict[str, Any]) -> Callable[..., TrainConfig]:
    """The configuration of the run, with other values for some dotted keys."""

    def make(**changes: Any) -> TrainConfig:
        changed: dict[str, Any] = json.loads(json.dumps(settings))
        for key, value in changes.items():
            *way, last = key.split("__")
            place = changed
            for name in way:
                place = place.setdefault(name, {})
            place[last] = value
        return TrainConfig.model_validate(changed)

    return make


ENGINES = Path(__file__).parents[3] / "recipes" / "train" / "accelerate"
_RANK = Path(__file__).with_name("one_rank.py")
_PRELOAD = ["torch", "transformers", "peft", "accelerate", "mgem_agent.recipes.train.program"]


@pytest.fixture(scope="session")
def rank_server() -> Any:
    """A fork server that has imported the libraries, so that a rank starts at once."""
    context = multiprocessing.get_context("forkserver")
    deepspeed = ["deepspeed"] if importlib.util.find_spec("deepspeed") else []
    before = dict(os.environ)
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    context.set_forkserver_preload(_PRELOAD + deepspeed)
    first = context.Process(target=time.sleep, args=(0,))
    first.start()
    first.join()
    os.environ.clear()
    os.environ.update(before)
    return context


def engine_environment(file: Path, num_processes: int, precision: str) -> dict[str, str]:
    """Return the variables that `accelerate launch --config_file FILE` sets for every rank."""
    from accelerate.commands import launch
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    words = ["--config_file", str(file), "--num_processes", str(num_processes), "--num_machines", "1"]
    words += ["--mixed_precision", precision, "--main_process_port", "0", "-m", "mgem_agent.recipes.train"]
    parsed = launch.launch_command_parser().parse_args(words)
    validate: Any = launch._validate_launch_command  # pyright: ignore[reportPrivateUsage]
    settings, defaults, _ = validate(parsed)
    settings.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    made = prepare_deepspeed_cmd_env(settings)[1] if settings.use_deepspeed else prepare_multi_gpu_env(settings)
    kept = ("ACCELERATE_", "FSDP_")
    return {name: value for name, value in made.items() if name.startswith(kept)}


@pytest.fixture
def launch(rank_server: Any, settings: dict[str, Any], tmp_path: Path) -> Callable[..., str]:
    """Train in several processes on the CPU, as a shipped configuration of accelerate says; returns what they print."""

    def run(
        engine: str,
        config: TrainConfig,
        *,
        num_processes: int = 2,
        expect: int = 0,
        die_at: int | None = None,
        counts_gradients: bool = False,
    ) -> str:
        file = tmp_path / f"{Path(config.run.output).name}.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        precision = "bf16" if config.run.precision == "bf16" else "no"
        shared = engine_environment(ENGINES / f"{engine}.yaml", num_processes, precision)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_processes)}
        shared |= {"LOCAL_WORLD_SIZE": str(num_processes), "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
        ranks, logs = [], []
        for rank in range(num_processes):
            logs.append(tmp_path / f"rank-{rank}.log")
            spec = {
                "env": shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                "config": str(file),
                "log": str(logs[-1]),
                "counts_gradients": counts_gradients,
                "die_at": die_at if rank == num_processes - 1 else None,
            }
            ranks.append(rank_server.Process(target=runpy.run_path, args=(str(_RANK), {"SPEC": spec})))
            ranks[-1].start()
        wait_for_all(ranks)
        said = "\n".join(log.read_text(encoding="utf-8") for log in logs)
        statuses = {rank.exitcode for rank in ranks}
        assert (statuses == {0}) if expect == 0 else (expect in statuses), said
        return said

    return run


def wait_for_all(ranks: list[Any], timeout_s: float = 300.0) -> None:
    """Wait for the ranks; when one fails, end the others, like torchrun."""
    end = time.monotonic() + timeout_s
    while any(rank.is_alive() for rank in ranks):
        if any(rank.exitcode for rank in ranks) or time.monotonic() > end:
            time.sleep(0.5)  # the others may be about to say what is wrong
            for rank in ranks:
                rank.kill()
        time.sleep(0.02)
    for rank in ranks:
        rank.join()
