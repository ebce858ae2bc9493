"""`mgem bench vllm`: Mini-Gemini on vLLM's server, against this package's engine."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from mgem_agent.cli.bench_progress import bench_bar
from mgem_agent.cli.printing import echo_json, open_console
from mgem_agent.errors import InputError

__all__ = ["vllm"]

_CLIENTS = "1,8,32"


def vllm(
    environment: Annotated[Path | None, typer.Option(help="Virtual environment with vLLM and this package.")] = None,
    make: Annotated[bool, typer.Option("--make-environment", help="Create that environment first.")] = False,
    requirement: Annotated[str, typer.Option(help="vLLM as for pip; by default its build for CPUs.")] = "",
    url: Annotated[str, typer.Option(help="A server that runs already, such as http://127.0.0.1:8000/v1.")] = "",
    folder: Annotated[Path | None, typer.Option(help="Folder of `mgem models convert`. Default: nano.")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Let vLLM compile; it starts minutes later.")] = False,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts with pictures, and in words.")] = 20,
    tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of an answer.")] = 24,
    clients: Annotated[str, typer.Option(help="Numbers of clients.")] = _CLIENTS,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads. Default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Mini-Gemini on `vllm serve`, against this package's engine: equal tokens, and requests a second.

    Example: mgem bench vllm --environment ~/vllm --make-environment. The environment needs 6 GB of disk. A server of
    --url must serve --folder by the name of that folder, in float32.
    """
    if (environment is None) == (not url):
        raise InputError("Name the environment of vLLM with --environment, or a server that runs with --url.")
    if make and environment is None:
        raise InputError("--make-environment needs the folder in --environment.")
    numbers = _numbers(clients)
    with bench_bar("vllm"), ExitStack() as stack:
        from mgem_agent.core_model.checkpoints.conversion import convert_checkpoint
        from mgem_agent.recipes.bench.measure import use_threads
        from mgem_agent.recipes.bench.vllm_environment import CPU_REQUIREMENT, make_environment, serve_vllm
        from mgem_agent.recipes.bench.vllm_serve import bench_vllm

        if make and environment is not None:
            make_environment(environment, requirement or CPU_REQUIREMENT)
        if folder is None:
            from mgem_agent.nano.vision_language import find_nano

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mgem-bench-"))) / "nano"
            convert_checkpoint(find_nano(), folder)
        if environment is not None:
            options = ["--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", str(max(numbers))]
            options += [] if compile_ else ["--enforce-eager"]
            url = stack.enter_context(serve_vllm(environment, folder, options=options, threads=threads))
        with use_threads(threads):
            result = bench_vllm(url.rstrip("/"), folder, prompts=prompts, tokens=tokens, clients=numbers)
    if as_json:
        echo_json(result.model_dump(mode="json"))
    else:
        open_console().print(result.render())


def _numbers(text: str) -> tuple[int, ...]:
    """Read numbers of clients."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--clients is {text!r}. Write whole numbers from 1 on, such as '{_CLIENTS}'.")
    return tuple(map(int, parts))
