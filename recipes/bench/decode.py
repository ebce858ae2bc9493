"""Streamed tokens, against plain transformers and llama.cpp on the same weights: `mgem bench decode --json`.

Ours is `stream_generate` on a model after `enable_cpu_decoding`. The alternative is `generate` of the language model
alone, as `AutoModelForCausalLM` loads it, with the same float32 weights and the same prompt. Both decode greedily. The
time is measured from the first token to the last, without reading the prompt, which is the same for both.

Faster tokens must also be the right ones. So the benchmark counts the tokens before the first difference, and measures
the agreement on the same text: the Kullback-Leibler divergence of the next token in nats, and how often the most likely
token is the same. With `prompts`, it counts the answers that are those of float32 in every token.

llama.cpp is measured as a server, by its own clock: `mgem bench decode --gguf FOLDER` writes the weights for it, in 8
and 4 bits, and `--llama-cpp URL` names a server, again for each.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM
from transformers.generation.streamers import BaseStreamer

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.cpu_decoding import CpuDecoding, enable_cpu_decoding
from mgem_agent.core_model.dialogue.streaming import stream_generate
from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_times
from mgem_agent.recipes.bench.gguf_weights import write_gguf
from mgem_agent.recipes.bench.llama_cpp import LlamaCppServer
from mgem_agent.recipes.bench.measure import describe_machine, require_positive
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.recipes.bench.rounds import build_tokenizer
from mgem_agent.recipes.bench.same_tokens import Answering, SameAnswers, compare_answers
from mgem_agent.recipes.bench.sizes import bench_config, build_model

__all__ = ["DecodeComparison", "ServerRun", "bench_decode"]

DecodeModelName = Literal["nano", "random", "small"]
"""nano's language model; random weights of its size, without download; or one narrow layer."""

_QUESTION = "Tell me about foxes, and where they live."


class ServerRun(BaseModel):
    """The same answer by a llama.cpp server.

    Attributes:
        run: Seconds from the first token to the last, by the server's clock.
        same_tokens: Number of tokens before the first one that differs from transformers.
        ratio: How many times faster ours is, by the medians.
    """

    model_config = ConfigDict(frozen=True)

    run: Run
    same_tokens: int
    ratio: float


class DecodeComparison(Comparison):
    """Seconds from the first token to the last.

    Attributes:
        servers: The llama.cpp servers.
        answers: Answers that are the same as those of float32, of ours and of the servers.
        num_tokens: Tokens of the answer.
        same_tokens: Number of tokens before the first difference.
        likeliest_agree: Fraction of positions of the alternative's text where the most likely next token is the same.
        divergence: Mean Kullback-Leibler divergence of ours from the alternative's next token, in nats.
    """

    num_tokens: int
    same_tokens: int
    likeliest_agree: float
    divergence: float
    servers: tuple[ServerRun, ...] = ()
    answers: tuple[SameAnswers, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ours_tokens_per_s(self) -> float:
        """Our tokens per second, by the median."""
        return (self.num_tokens - 1) / self.ours

    @computed_field  # type: ignore[prop-decorator]
    @property
    def alternative_tokens_per_s(self) -> float:
        """The alternative's tokens per second, by the median."""
        return (self.num_tokens - 1) / self.alternative

    def tables(self) -> list[Table]:
        """Return the comparison, the agreement, the servers and the answers."""
        table = Table("", self.ours_run.label, self.alternative_run.label)
        table.columns[1].justify = table.columns[2].justify = "right"
        table.add_row("tokens a second", f"{self.ours_tokens_per_s:.1f}", f"{self.alternative_tokens_per_s:.1f}")
        table.add_row("the same before the first other", f"{self.same_tokens} of {self.num_tokens}", "")
        table.add_row("likeliest next token the same", f"{self.likeliest_agree:.1%}", "")
        table.add_row("divergence of the next token", f"{self.divergence:.1e} nats", "")
        return [*super().tables(), table, *self._server_table(), *self._answer_table()]

    def _server_table(self) -> list[Table]:
        if not self.servers:
            return []
        table = Table("", "tokens a second", "ours : it", "the same before the first other")
        for server in self.servers:
            rate = (self.num_tokens - 1) / statistics.median(server.run.seconds)
            same = f"{server.same_tokens} of {self.num_tokens}"
            table.add_row(server.run.label, f"{rate:.1f}", format_times(server.ratio), same)
        return [table]

    def _answer_table(self) -> list[Table]:
        if not self.answers:
            return []
        table = Table("", "answers as of float32", "the others part after, median")
        for answers in self.answers:
            same = f"{answers.num_prompts - len(answers.parted)} of {answers.num_prompts}"
            after = answers.median_parted_after
            table.add_row(answers.label, same, "" if after is None else f"{after:g} tokens")
        return [table]


def bench_decode(
    *,
    model: DecodeModelName = "nano",
    tokens: int = 48,
    repeats: int = 3,
    llama_cpp: Sequence[str] = (),
    prompts: int = 0,
    gguf: str | os.PathLike[str] | None = None,
) -> DecodeComparison:
    """Measure the speed of streamed tokens.

    Args:
        model: The language model; "nano" downloads its own at first use.
        tokens: Length of the answer.
        repeats: Timed answers of each.
        llama_cpp: Addresses of llama.cpp servers with the same weights.
        prompts: Number of prompts whose answers are compared token for token, at most 100.
        gguf: Folder for the weights as GGUF files in 8 and 4 bits, which are written first.

    Raises:
        InputError: If a number is too small or too large, or the model is not supported.
        CheckpointError: If nano is missing and cannot be downloaded.
        ToolError: If a server does not answer.
    """
    require_positive(repeats=repeats)
    if tokens < 2:
        raise InputError(f"tokens must be at least 2, got {tokens}: the time from the first to the last is measured.")
    if not 0 <= prompts <= 100:
        raise InputError(f"prompts must be between 0 and 100, got {prompts}.")
    servers = [LlamaCppServer(address) for address in llama_cpp]
    ours, processor, packed = _loaded(model)
    if gguf is not None:
        _write_weights(ours, processor, Path(gguf), model)
    plain = _plain_model(ours)
    way = enable_cpu_decoding(ours, packed)
    if way is None:
        raise InputError(f"The model {model!r} is of a kind that is not made quicker. Use 'nano', 'random' or 'small'.")
    both = _BothWays(ours, plain, processor, way, tokens)
    report("warming up")
    both.warm_up()
    pairs, theirs = [], []
    for repeat in steps("an answer of each", range(repeats)):
        pairs.append(both.seconds(ours_first=repeat % 2 == 0))
        theirs.append([both.server_seconds(server) for server in servers])
        rates = ((tokens - 1) / seconds for seconds in pairs[-1])
        report("", result="tokens a second: {:.1f}, transformers {:.1f}".format(*rates))
    report("the agreement of the tokens")
    same, agree, divergence = both.agreement()
    median = statistics.median(pair[0] for pair in pairs)
    columns = [tuple(row[place] for row in theirs) for place in range(len(servers))]
    runs = [Run(label=server.name, seconds=seconds) for server, seconds in zip(servers, columns, strict=True)]
    return DecodeComparison(
        name="decode",
        setting=f"{tokens} tokens of an answer, {model} language model, greedy; ours: packed weights, {_formats(way)}",
        note="From the first token to the last.",
        ours_run=Run(label="stream_generate", seconds=tuple(pair[0] for pair in pairs)),
        alternative_run=Run(label="transformers generate", seconds=tuple(pair[1] for pair in pairs)),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(torch.device("cpu")),
        num_tokens=tokens,
        same_tokens=same,
        likeliest_agree=agree,
        divergence=divergence,
        servers=tuple(
            ServerRun(run=run, same_tokens=both.same_as_server(server), ratio=statistics.median(run.seconds) / median)
            for server, run in zip(servers, runs, strict=True)
        ),
        answers=both.answers(servers, prompts),
    )


def _write_weights(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, folder: Path, name: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bit_counts: tuple[Literal[8, 4], ...] = (8, 4)
    for bits in bit_counts:
        path = write_gguf(model, processor.tokenizer, folder / f"{name}-q{bits}_0.gguf", bits=bits)
        report("", result=f"written: {path}")


def _formats(way: CpuDecoding) -> str:
    counts = Counter(kind.name for kind in way.formats())
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _loaded(
    name: DecodeModelName,
) -> tuple[MiniGeminiForConditionalGeneration, MiniGeminiProcessor, Path | None]:
    """Return a model without fast decoding, its processor, and the file of its packed weights, if there is one."""
    if name == "nano":
        from mgem_agent.nano.text_only import load_text_only
        from mgem_agent.nano.vision_language import PACKED_FILE, find_nano, has_vision_weights, load_nano

        if has_vision_weights():
            return *load_nano(exact=True), find_nano() / PACKED_FILE
        return *load_text_only(exact=True), None
    config = bench_config(small=True, llm="none" if name == "small" else "smollm2-135m")
    torch.manual_seed(0)
    model = build_model(config, device=torch.device("cpu"), dtype=torch.float32)
    return model, MiniGeminiProcessor.from_model_config(config, build_tokenizer(config.text_config.vocab_size)), None


def _plain_model(model: MiniGeminiForConditionalGeneration) -> LlamaForCausalLM:
    """Return the language model alone, with the same tensors, without our code."""
    trunk: Any = model.model.language_model
    with torch.device("meta"):
        plain = LlamaForCausalLM(trunk.config)
    weights = {f"model.{name}": value for name, value in trunk.state_dict().items()}
    plain.load_state_dict({**weights, "lm_head.weight": model.lm_head.weight}, assign=True)
    plain.tie_weights()
    plain.model.rotary_emb = trunk.rotary_emb  # its buffers are not weights
    return plain.eval()


class _Clock(BaseStreamer):
    """Records the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""


class _BothWays:
    """One answer, generated by both implementations."""

    def __init__(
        self,
        ours: MiniGeminiForConditionalGeneration,
        plain: LlamaForCausalLM,
        processor: MiniGeminiProcessor,
        way: CpuDecoding,
        tokens: int,
    ) -> None:
        self._plain: Any = plain
        self._ours, self._processor, self._way = ours, processor, way
        self._inputs = self._prompted(_QUESTION)
        stop = processor.stop_token_ids
        self._options: dict[str, Any] = {
            "do_sample": False,
            "max_new_tokens": tokens,
            "eos_token_id": ours.config.text_config.vocab_size,  # none, so that the whole length is measured
            "pad_token_id": stop[0],
            "no_repeat_ngram_size": 0,
        }

    def warm_up(self) -> None:
        self._way.prepare()
        self._ours_seconds()
        self._plain_seconds()

    def seconds(self, *, ours_first: bool) -> tuple[float, float]:
        """Return the seconds of ours and of the alternative."""
        if ours_first:
            return self._ours_seconds(), self._plain_seconds()
        plain = self._plain_seconds()
        return self._ours_seconds(), plain

    def _ours_seconds(self) -> float:
        clock = _Clock()
        for piece in stream_generate(self._ours, self._processor, self._inputs, **self._options):
            clock.put(torch.tensor(len(piece)))
        return time.perf_counter() - clock.times[0]

    def _plain_seconds(self) -> float:
        clock = _Clock()
        self._plain.generate(**self._inputs, **self._options, streamer=clock)
        return clock.times[-1] - clock.times[1]  # the first value is the prompt

    def server_seconds(self, server: LlamaCppServer) -> float:
        """Return the seconds of the same answer by a server."""
        ids = self._inputs["input_ids"][0].tolist()
        return server.answer(ids, max_tokens=self._options["max_new_tokens"]).seconds

    def same_as_server(self, server: LlamaCppServer) -> int:
        """Return the number of tokens before the first one in which a server differs from transformers."""
        ids = self._inputs["input_ids"][0].tolist()
        found = server.answer(ids, max_tokens=self._options["max_new_tokens"]).tokens
        wanted = self._plain.generate(**self._inputs, **self._options)[0, len(ids) :].tolist()
        pairs = zip(found, wanted, strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one != other), len(wanted))

    def answers(self, servers: Sequence[LlamaCppServer], number: int) -> tuple[SameAnswers, ...]:
        """Compare the answers to a number of prompts with those of float32, until a stop token."""
        if not number:
            return ()
        stop = self._processor.stop_token_ids
        options = {**self._options, "eos_token_id": stop}

        def answering(model: Any) -> Answering:
            def answer(prompt: str) -> list[int]:
                inputs = self._prompted(prompt)
                ids = model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
                return [token for token in ids if token not in stop]

            return answer

        def served(server: LlamaCppServer) -> Answering:
            def answer(prompt: str) -> Sequence[int]:
                ids = self._prompted(prompt)["input_ids"][0].tolist()
                return server.answer(ids, max_tokens=options["max_new_tokens"], stop=stop).tokens

            return answer

        others = {"ours": answering(self._ours), **{server.name: served(server) for server in servers}}
        return compare_answers(answering(self._plain), others, number)

    def _prompted(self, prompt: str) -> Any:
        message = [{"role": "user", "content": prompt}]
        return self._processor.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=True)

    @torch.no_grad()
    def agreement(self) -> tuple[int, float, float]:
        """Return the number of same tokens, the agreement and the divergence."""
        ours: Any = self._ours.generate(**self._inputs, **self._options)
        wanted: Any = self._plain.generate(**self._inputs, **self._options)
        start = self._inputs["input_ids"].shape[1]
        differs = (ours[0, start:] != wanted[0, start:]).nonzero()
        same = int(differs[0]) if len(differs) else len(wanted[0]) - start
        ideal = self._plain(input_ids=wanted[:, :-1]).logits[0, start:].log_softmax(-1)
        cache = DynamicCache(config=self._plain.config)
        self._ours(input_ids=wanted[:, :start], cache=cache, use_cache=True)
        rows = [
            self._ours(input_ids=wanted[:, place : place + 1], cache=cache, use_cache=True).logits[0]
            for place in range(start, wanted.shape[1] - 1)
        ]
        found = torch.cat(rows).log_softmax(-1)
        agree = (ideal.argmax(-1) == found.argmax(-1)).double().mean()
        divergence = (ideal.exp() * (ideal - found)).sum(-1).mean()
        return same, float(agree), float(divergence)
