"""`mgem bench`: measure the core model and the agent against a named alternative, in the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mgem_agent.cli.printing import echo_json, open_console

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.comparison import Comparison

__all__ = ["app"]

app = typer.Typer(
    help="Measure speed and memory against a named alternative, in the same run, with random weights.\n\n"
    "On a machine that does other work too, look at the fastest runs, or use [bold]--threads 1[/].",
    no_args_is_help=True,
)

_DType = Literal["float32", "bfloat16", "float16"]
_LLM = Literal["none", "smollm2-135m", "gemma-2b", "vicuna-7b"]

_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
_Batch = Annotated[int, typer.Option(min=1, help="Images at once.")]
_Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
_DTypeOption = Annotated[_DType, typer.Option(help="Data type of the weights.")]
_Hd = Annotated[bool, typer.Option("--hd", help="The HD models: 672/1536 px instead of 336/768 px.")]
_LLMOption = Annotated[_LLM, typer.Option(help='Sizes of the language model; "none" is one narrow layer.')]
_Repeats = Annotated[int, typer.Option(min=1, help="Timed runs of each.")]
_Small = Annotated[bool, typer.Option("--small", help="Small encoders: quick, and says little about speed.")]
_Threads = Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; as many as torch likes if not given.")]


@app.command("mining")
def _mining(
    hd: _Hd = False,
    batch: _Batch = 1,
    backward: Annotated[bool, typer.Option("--backward", help="Compute gradients too.")] = False,
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: _Repeats = 5,
    small: _Small = False,
    as_json: _AsJson = False,
) -> None:
    """Patch info mining, against the textbook form that projects every pixel.

    Both run on the same stage maps, in the sizes of the released models: CLIP ViT-L/14 and ConvNeXt-L. On two CPU cores
    it takes about a minute, with --hd some minutes and 10 GB of memory.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.mining import bench_mining

        return bench_mining(
            hd=hd, small=small, batch=batch, dtype=dtype, device=device, backward=backward, repeats=repeats
        )

    _run(measure, threads, as_json)


@app.command("vision")
def _vision(
    hd: _Hd = False,
    batch: _Batch = 1,
    llm: _LLMOption = "none",
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: _Repeats = 3,
    small: _Small = False,
    as_json: _AsJson = False,
) -> None:
    """The whole way from pixels to visual tokens, against the authors' way, and the time of each part.

    The second table has the columns of the paper's table of latencies. Its last one, the language model, is left out
    unless --llm names its sizes.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.vision import bench_vision

        return bench_vision(hd=hd, small=small, batch=batch, dtype=dtype, device=device, llm=llm, repeats=repeats)

    _run(measure, threads, as_json)


@app.command("rounds")
def _rounds(
    rounds: Annotated[int, typer.Option(min=1, help="Questions with their answers.")] = 10,
    image_every: Annotated[
        int, typer.Option(min=0, help="Show another image every so many rounds; 0: in the first round alone.")
    ] = 0,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer.")] = 16,
    hd: _Hd = False,
    llm: _LLMOption = "smollm2-135m",
    dtype: _DTypeOption = "float32",
    device: _Device = "cpu",
    threads: _Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Dialogues that are timed.")] = 1,
    small: _Small = False,
    as_json: _AsJson = False,
) -> None:
    """A dialogue of many rounds: a conversation with its cache, against the whole dialogue run afresh each round.

    What counts is the time from a question to the first token of its answer.
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

    _run(measure, threads, as_json)


@app.command("agent")
def _agent(
    turns: Annotated[int, typer.Option(min=4, help="Turns of the long session.")] = 200,
    single: Annotated[
        float, typer.Option(min=0.001, help="Seconds that the generator of the story takes for one picture.")
    ] = 0.5,
    threads: _Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed turns of each.")] = 20,
    as_json: _AsJson = False,
) -> None:
    """The agent: a turn, a story of eight scenes and a long session, against a bare agent of LangChain's.

    Reasoner and generator follow a script, so that nothing but the agent is measured. The story's generator takes twice
    as long for eight pictures as for one.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.agent import bench_agent

        return bench_agent(turns=turns, single_s=single, repeats=repeats)

    _run(measure, threads, as_json)


@app.command("decode")
def _decode(
    model: Annotated[
        Literal["nano", "random", "small"],
        typer.Option(help="nano's language model; random weights of its size; or one narrow layer of them."),
    ] = "nano",
    exact: Annotated[bool, typer.Option("--exact", help="Ours with the float32 weights, too.")] = False,
    tokens: Annotated[int, typer.Option(min=2, help="Length of the answer.")] = 48,
    threads: _Threads = None,
    repeats: _Repeats = 3,
    as_json: _AsJson = False,
) -> None:
    """Tokens a second of an answer as it streams, against plain transformers on the same weights.

    What it says beside the time is how many tokens are the same, for ours are written with fewer bits.
    """

    def measure() -> Comparison:
        from mgem_agent.recipes.bench.decode import bench_decode

        return bench_decode(model=model, exact=exact, tokens=tokens, repeats=repeats)

    _run(measure, threads, as_json)


@app.command("start")
def _start(
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 3,
    as_json: _AsJson = False,
) -> None:
    """Seconds that `mgem draw` and `mgem see` take with nano, against importing torch and nothing else.

    Each runs in a process of its own. nano must have been used once, so that nothing is fetched.
    """
    with open_console(stderr=True).status("Measuring commands"):
        from mgem_agent.recipes.bench.start import bench_start

        times = bench_start(repeats=repeats)
    if as_json:
        echo_json(times.model_dump(mode="json"))
    else:
        open_console().print(times.render())


def _run(measure: Callable[[], Comparison], threads: int | None, as_json: bool) -> None:
    """Measure, with a sign of life on stderr, and print what came out."""
    with open_console(stderr=True).status("Measuring; the alternative may take a while"):
        from mgem_agent.recipes.bench.measure import use_threads

        with use_threads(threads):
            comparison: Any = measure()
    if as_json:
        echo_json(comparison.model_dump(mode="json"))
    else:
        open_console().print(comparison.render())
