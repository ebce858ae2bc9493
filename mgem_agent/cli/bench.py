"""`mgem bench`: compare the core model and the agent with a named alternative, in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mgem_agent.cli.bench_generator import generator
from mgem_agent.cli.bench_progress import bench_bar
from mgem_agent.cli.bench_vllm import vllm
from mgem_agent.cli.printing import echo_json, open_console
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.comparison import Comparison
    from mgem_agent.recipes.bench.data import DataStarts
    from mgem_agent.recipes.bench.page import PageCost
    from mgem_agent.recipes.bench.scale import ScaleFigures
    from mgem_agent.recipes.bench.start import StartTimes
    from mgem_agent.recipes.bench.training_report import TrainingComparison

__all__ = ["app"]

app = typer.Typer(
    help="Measure speed and memory against a named alternative, in the same run, with random weights.\n\n"
    "On a busy machine, compare the fastest runs, or use [bold]--threads 1[/].",
    no_args_is_help=True,
)

_DType = Literal["float32", "bfloat16", "float16"]
_LLM = Literal["none", "smollm2-135m", "gemma-2b", "vicuna-7b"]

_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
_Batch = Annotated[int, typer.Option(min=1, help="Batch size in images.")]
_Device = Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, ...")]
_DTypeOption = Annotated[_DType, typer.Option(help="Data type of the weights.")]
_Hd = Annotated[bool, typer.Option("--hd", help="Use the HD sizes: 672/1536 px instead of 336/768 px.")]
_LLMOption = Annotated[_LLM, typer.Option(help='Size of the language model; "none" is one narrow layer.')]
_Repeats = Annotated[int, typer.Option(min=1, help="Number of timed runs of each side.")]
_Small = Annotated[bool, typer.Option("--small", help="Use small encoders: quick, but not representative.")]
_Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads. Default: torch's.")]


@app.command("mining")
def _mining(
    hd: _Hd = False,
    batch: _Batch = 1,
    backward: Annotated[bool, typer.Option("--backward", help="Include the backward pass.")] = False,
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: _Repeats = 3,
    small: _Small = False,
    as_json: _AsJson = False,
) -> None:
    """Patch info mining, against the textbook form that projects every pixel.

    Both use the same feature maps, in the sizes of the released models: CLIP ViT-L/14 and ConvNeXt-L. On two CPU cores
    it takes about a minute; with --hd it takes some minutes and 10 GB of memory.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.mining import bench_mining

        return bench_mining(
            hd=hd, small=small, batch=batch, dtype=dtype, device=device, backward=backward, repeats=repeats
        )

    _run("mining", measure, threads, as_json)


@app.command("vision")
def _vision(
    hd: _Hd = False,
    batch: _Batch = 1,
    llm: Annotated[
        _LLM | None,
        typer.Option(
            help='Size of the language model. Default: "none", one narrow layer; with --first-token, SmolLM2.'
        ),
    ] = None,
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: _Repeats = 2,
    small: _Small = False,
    first_token: Annotated[
        bool, typer.Option("--first-token", help="From the picture's file to the first token instead, by part.")
    ] = False,
    compile_encoder: Annotated[
        bool, typer.Option("--compile", help="With --first-token: compile the HR encoder with torch.compile.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """From pixels to visual tokens, against the authors' method, with the time of each part.

    The second table has the columns of the paper's latency table, which is printed below it. The last column, the
    language model, needs --llm. On a GPU: mgem bench vision --device cuda --dtype bfloat16 --llm vicuna-7b.

    With --first-token, the alternative is the same without high resolution, so the ratio is what that costs.
    """

    def measure() -> Comparison:
        if first_token:
            from mgem_agent.recipes.bench.first_token import bench_first_token

            return bench_first_token(
                hd=hd,
                small=small,
                dtype=dtype,
                device=device,
                llm=llm or "smollm2-135m",
                compile_encoder=compile_encoder,
                repeats=repeats,
            )
        if compile_encoder:
            raise InputError("--compile is for --first-token. Add --first-token, or leave out --compile.")
        from mgem_agent.recipes.bench.vision import bench_vision

        return bench_vision(
            hd=hd, small=small, batch=batch, dtype=dtype, device=device, llm=llm or "none", repeats=repeats
        )

    _run("vision", measure, threads, as_json)


@app.command("rounds")
def _rounds(
    rounds: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 6,
    image_every: Annotated[
        int, typer.Option(min=0, help="Show a new image every so many rounds; 0: only in the first round.")
    ] = 0,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer in tokens.")] = 16,
    hd: _Hd = False,
    llm: _LLMOption = "smollm2-135m",
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed dialogues.")] = 1,
    small: _Small = False,
    as_json: _AsJson = False,
) -> None:
    """A dialogue of many rounds: with the conversation's cache, against recomputing the whole dialogue each round.

    Measures the time from a question to the first token of the answer.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.rounds import bench_rounds

        return bench_rounds(
            rounds=rounds,
            image_every=image_every,
            answer_tokens=answer_tokens,
            hd=hd,
            small=small,
            dtype=dtype,
            device=device,
            llm=llm,
            repeats=repeats,
        )

    _run("rounds", measure, threads, as_json)


@app.command("agent")
def _agent(
    turns: Annotated[int, typer.Option(min=4, help="Number of turns in the long session.")] = 200,
    single: Annotated[
        float, typer.Option(min=0.001, help="Seconds that the story's generator takes for one picture.")
    ] = 0.5,
    threads: _Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed turns of each side.")] = 20,
    as_json: _AsJson = False,
) -> None:
    """The agent: a turn, a story with eight scenes and a long session, against a plain LangChain agent.

    The reasoner and the generator are scripted, so that only the agent is measured. The story's generator takes twice
    as long for a batch of eight pictures as for one picture.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.agent import bench_agent

        return bench_agent(turns=turns, single_s=single, repeats=repeats)

    _run("agent", measure, threads, as_json)


@app.command("story")
def _story(
    answer: Annotated[float, typer.Option(min=0.0, help="Seconds that the reasoner takes for an answer.")] = 0.35,
    single: Annotated[float, typer.Option(min=0.001, help="Seconds that the generator takes for one picture.")] = 0.5,
    batch_single: Annotated[
        float, typer.Option(min=0.001, help="Seconds of a single picture by the generator with cheap batches.")
    ] = 2.0,
    threads: _Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed stories of each kind.")] = 1,
    as_json: _AsJson = False,
) -> None:
    """A story whose pages are drawn while later ones are written, against one step after another.

    The reasoner and the generator are scripted and take the given times. The bound is the longer of writing alone and
    drawing alone. Also draws eight scenes with a generator whose batch of eight pictures takes twice as long as one
    picture, against one picture at a time: a factor of 4 is possible.
    """

    def measure() -> Comparison:
        from mgem_agent.cli.bench_story import tell_story
        from mgem_agent.recipes.bench.story import bench_story

        return bench_story(tell_story, single_s=single, answer_s=answer, batch_single_s=batch_single, repeats=repeats)

    _run("story", measure, threads, as_json)


@app.command("page")
def _page(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Reasoner; see mgem config.")] = None,
    generator: Annotated[str | None, typer.Option("--generator", "-g", help="Image generator.")] = None,
    scenes: Annotated[int, typer.Option(min=1, max=24, help="Number of pages.")] = 4,
    threads: _Threads = None,
    as_json: _AsJson = False,
) -> None:
    """What an illustrated page costs: answers, tokens, drawings, seconds and bytes of a story from a premise.

    Everything is written first, and drawn afterwards. docs/scale.md multiplies these figures.
    """

    def measure() -> PageCost:
        from mgem_agent.cli.bench_page import counted_story
        from mgem_agent.recipes.bench.page import bench_page
        from mgem_agent.settings import load_settings

        settings = load_settings(model=model, generator=generator)
        names = {"reasoner": settings.model, "generator": settings.generator}
        return bench_page(counted_story(settings), **names, num_scenes=scenes)

    _run("page", measure, threads, as_json)


@app.command("decode")
def _decode(
    model: Annotated[
        Literal["nano", "random", "small"],
        typer.Option(help="nano's language model, random weights of the same size, or one narrow layer."),
    ] = "nano",
    tokens: Annotated[int, typer.Option(min=2, help="Length of the answer in tokens.")] = 48,
    llama_cpp: Annotated[
        list[str] | None, typer.Option(help="Address of a llama.cpp server with the same weights, again for each.")
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder in which to write the weights for llama.cpp first.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(min=0, max=100, help="Number of answers to compare, token for token, with float32.")
    ] = 0,
    threads: _Threads = None,
    repeats: _Repeats = 3,
    as_json: _AsJson = False,
) -> None:
    """Tokens per second of a streamed answer, against plain transformers and llama.cpp on the same weights.

    Also reports how many tokens are those of float32. For llama.cpp: run once with --gguf FOLDER, start one server for
    each file (llama-server -m FOLDER/nano-q8_0.gguf --port 8081 -t 1), then use --llama-cpp http://127.0.0.1:8081.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.decode import bench_decode

        return bench_decode(
            model=model,
            tokens=tokens,
            repeats=repeats,
            llama_cpp=llama_cpp or (),
            prompts=prompts,
            gguf=gguf,
        )

    _run("decode", measure, threads, as_json)


@app.command("serve")
def _serve(
    requests: Annotated[int, typer.Option(min=1, help="Number of timed requests for each number of clients.")] = 200,
    memory_requests: Annotated[int, typer.Option(min=1, help="Number of requests for the memory.")] = 3_000,
    single: Annotated[float, typer.Option(min=0.001, help="Seconds of the generator for one picture.")] = 0.5,
    threads: _Threads = None,
    as_json: _AsJson = False,
) -> None:
    """The server: requests of 1, 8 and 64 clients, against the agent's graph called in this process.

    Also measures the memory of the server over many requests, and 64 clients who draw with a generator that takes twice
    as long for a batch of eight pictures as for one picture. The reasoner and the generator are scripted. With
    --memory-requests 10000 it takes some minutes.
    """
    from mgem_agent.extras import EXTRAS, require_packages

    require_packages("'mgem bench serve'", *EXTRAS["serve"])

    def measure() -> Comparison:
        from mgem_agent.cli.bench_server import start_server
        from mgem_agent.recipes.bench.serve import bench_serve

        return bench_serve(start_server, requests=requests, memory_requests=memory_requests, single_s=single)

    _run("serve", measure, threads, as_json)


@app.command("train")
def _train(
    llm: _LLMOption = "smollm2-135m",
    full_encoders: Annotated[
        bool, typer.Option("--full-encoders", help="Use encoders of the released sizes instead of small ones.")
    ] = False,
    hd: _Hd = False,
    batch: Annotated[int, typer.Option(min=1, help="Records of a step.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Number of timed steps of each side.")] = 2,
    precision: Annotated[
        Literal["auto", "bf16", "tf32", "fp32"], typer.Option(help="Number format, as in a training.")
    ] = "auto",
    device: _Device = "cpu",
    threads: _Threads = None,
    as_json: _AsJson = False,
) -> None:
    """Training steps, packed and padded, against transformers' Trainer; and the input pipeline alone.

    The same model and records. Tokens a second without padding, and the share of this machine's measured peak. On a
    GPU: mgem bench train --device cuda --precision bf16 --llm gemma-2b --full-encoders --batch 16.
    """

    def measure() -> TrainingComparison:
        from mgem_agent.recipes.bench.training import bench_training

        return bench_training(
            llm=llm, small=not full_encoders, hd=hd, batch=batch, steps=steps, precision=precision, device=device
        )

    _run("train", measure, threads, as_json)


@app.command("start")
def _start(
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed runs of each side.")] = 3,
    server: Annotated[bool, typer.Option("--server", help="Also measure both with a running mgem serve.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Total time of `mgem draw` and `mgem see` with nano, and until `mgem chat` is ready, against importing torch.

    Each runs in its own process. Use nano once before, so that no download is measured.
    """

    def measure() -> StartTimes:
        from mgem_agent.recipes.bench.start import bench_start

        return bench_start(repeats=repeats, server=server)

    _run("start", measure, None, as_json)


@app.command("data")
def _data(
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Number of records, about 6 KB each.")] = 30_000,
    folder: Annotated[Path | None, typer.Option(help="Folder for the records. Default: the temporary folder.")] = None,
    as_json: _AsJson = False,
) -> None:
    """The start of a training: shards, JSON lines and a JSON list, against only loading the list with json.load.

    Records are written first and deleted afterwards. The default takes about a minute; with -n 1500000 it takes an hour
    or less, and 10 GB on the disk. Linux only.
    """

    def measure() -> DataStarts:
        from mgem_agent.cli.cores import num_cores
        from mgem_agent.recipes.bench.data import bench_data
        from mgem_agent.recipes.bench.progress import report

        return bench_data(num_records=num, folder=folder, num_processes=num_cores(), say=report)

    _run("data", measure, None, as_json)


@app.command("scale")
def _scale(
    only: Annotated[list[str] | None, typer.Option(help="A part to measure, again for each. Default: all.")] = None,
    threads: _Threads = None,
    as_json: _AsJson = False,
) -> None:
    """What runs past one process: stories on two Ray workers, against one; the store; two models on one device.

    The store is measured in a folder, against plain files, and at the address that is set as store, if any.

    A part whose package is not installed is left out, with the reason.
    """
    from mgem_agent.cli.bench_scale import parts_of

    parts = parts_of(only)

    def measure() -> ScaleFigures:
        from mgem_agent.recipes.bench.scale import bench_scale

        return bench_scale(parts)

    _run("scale", measure, threads, as_json)


@app.command("all")
def _all(
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file with the machine, the versions, tables and plots.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A benchmark to run, again for each. Default: all.")] = None,
    threads: _Threads = None,
    as_json: _AsJson = False,
) -> None:
    """All benchmarks with their default options, each against its named alternative.

    Each result is printed as it comes, and the report is written again after each. A benchmark that cannot run here is
    left out, with the reason.
    """
    from mgem_agent.cli.bench_all import run_all

    run_all(report, only, threads, as_json=as_json)


app.command("generator")(generator)
app.command("vllm")(vllm)


def _run(name: str, measure: Callable[[], Any], threads: int | None, as_json: bool) -> None:
    """Measure with a bar on stderr, and print the result."""
    with bench_bar(name):
        from mgem_agent.recipes.bench.measure import use_threads

        with use_threads(threads):
            result = measure()
    if as_json:
        echo_json(result.model_dump(mode="json"))
    else:
        open_console().print(result.render())
