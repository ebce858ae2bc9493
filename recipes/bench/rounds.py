"""A dialogue of many rounds, with and without its cache: `mgem bench rounds --rounds 6 --json`.

Ours is `Conversation`, which encodes and pre-fills only what a round adds. The alternative runs the whole dialogue, its
including its images, through `model.generate` in every round. Both get the same messages and decode greedily, so their
answers must be equal. The time from the question to the first piece of the answer is measured.

Weights and texts are random. The tokenizer has one word for each id, so equal answers have equal tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
from mgem_agent.core_model.dialogue.conversation import Conversation
from mgem_agent.core_model.dialogue.streaming import stream_generate
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import DTypeName, describe_machine, find_device, require_positive
from mgem_agent.recipes.bench.progress import report, reporting
from mgem_agent.recipes.bench.sizes import LanguageModelName, bench_config, build_model, describe_sizes

__all__ = ["RoundsComparison", "bench_rounds", "build_tokenizer"]

_SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
_QUESTION_WORDS = 24


class RoundLatency(BaseModel):
    """Seconds of one round: medians.

    Attributes:
        number: Counted from 1.
        prompt_tokens: Tokens of the dialogue up to the answer, including visual tokens.
        ours_first_token: From the question to the first piece of the answer, with the cache.
        alternative_first_token: The same, without the cache.
        ours_answer: From the question to the end of the answer, with the cache.
        alternative_answer: The same, without the cache.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    prompt_tokens: int
    ours_first_token: float
    alternative_first_token: float
    ours_answer: float
    alternative_answer: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float:
        """Speed-up of the first token by the cache."""
        return self.alternative_first_token / self.ours_first_token


class RoundsComparison(Comparison):
    """Time to the first token in the last round and in each round.

    Attributes:
        rounds: Each round.
        same_answers: Whether all answers were the same, token for token.
    """

    rounds: tuple[RoundLatency, ...]
    same_answers: bool

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ours_growth(self) -> float | None:
        """How many times longer the last round takes than the second, with the cache; None with fewer than two."""
        return self._growth("ours_first_token")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def alternative_growth(self) -> float | None:
        """The same, without the cache."""
        return self._growth("alternative_first_token")

    def _growth(self, field: str) -> float | None:
        seconds: list[float] = [getattr(each, field) for each in self.rounds]
        return seconds[-1] / seconds[1] if len(seconds) > 1 else None

    def tables(self) -> list[Table]:
        """Return the rounds, then the comparison of the last one."""
        table = Table("round", "prompt tokens", "first token: ours", "afresh", "ratio", "answer: ours", "afresh")
        for column in table.columns:
            column.justify = "right"
        for row in self.rounds:
            first = format_seconds(row.ours_first_token), format_seconds(row.alternative_first_token)
            answer = format_seconds(row.ours_answer), format_seconds(row.alternative_answer)
            table.add_row(str(row.number), str(row.prompt_tokens), *first, format_times(row.ratio), *answer)
        if self.ours_growth is not None:
            growth = format_times(self.ours_growth), format_times(self.alternative_growth)
            table.add_section()
            table.add_row(f"{len(self.rounds)} : 2", "", *growth)
        return [table, *super().tables()]


class _Dialogue:
    """One dialogue with and without the cache, timed round by round."""

    def __init__(self, model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor, num_words: int):
        self._model = model
        self._processor = processor
        self._options: dict[str, Any] = {
            "do_sample": False,
            "max_new_tokens": num_words,
            "min_new_tokens": num_words,
            "suppress_tokens": list(range(len(_SPECIAL_TOKENS))),  # answers have no special tokens
        }
        self._conversation = Conversation(model, processor, **self._options)

    def say(self, question: str, images: Sequence[Image.Image], *, ours_first: bool) -> tuple[_Said, _Said, int]:
        """Run one round with and without the cache; return both, and the number of prompt tokens."""
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
        messages = [*self._conversation.messages, {"role": "user", "content": content}]
        ways = {"ours": self._conversation.stream(question, list(images)), "alternative": self._afresh(messages)}
        said = {way: _Said(ways[way]) for way in (ways if ours_first else reversed(ways))}
        usage = self._conversation.usage
        return said["ours"], said["alternative"], usage.input_tokens if usage else 0

    def _afresh(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        inputs = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        yield from stream_generate(self._model, self._processor, inputs, **self._options)


class _Said:
    """An answer, with the seconds up to its first piece and up to its end."""

    def __init__(self, pieces: Iterator[str]) -> None:
        start = time.perf_counter()
        text = next(pieces)
        self.first_token = time.perf_counter() - start
        self.text = text + "".join(pieces)
        self.answer = time.perf_counter() - start


def bench_rounds(
    *,
    rounds: int = 6,
    image_every: int = 0,
    answer_tokens: int = 16,
    hd: bool = False,
    small: bool = False,
    dtype: DTypeName = "float32",
    device: str = "cpu",
    llm: LanguageModelName = "smollm2-135m",
    repeats: int = 1,
) -> RoundsComparison:
    """Measure a dialogue.

    Args:
        rounds: Questions with their answers.
        image_every: Rounds between new images; 0 for one image in the first round only.
        answer_tokens: Length of each answer.
        hd: The HD models: 672/1536 px instead of 336/768 px.
        small: Small encoders, for a quick test; the speed means little.
        dtype: Data type of the weights.
        device: `cpu`, `cuda` or `cuda:1`.
        llm: The language model; "none" is one narrow layer.
        repeats: Dialogues that are timed.

    Raises:
        InputError: If the device is missing, or a number is less than one.
    """
    require_positive(rounds=rounds, answer_tokens=answer_tokens, repeats=repeats)
    place, kind = find_device(device), getattr(torch, dtype)
    config = bench_config(hd=hd, small=small, llm=llm)
    torch.manual_seed(0)
    model = build_model(config, device=place, dtype=kind)
    processor = MiniGeminiProcessor.from_model_config(config, build_tokenizer(config.text_config.vocab_size))
    shows_image = [number == 0 or (image_every > 0 and number % image_every == 0) for number in range(rounds)]
    asked = [(_question(config.text_config.vocab_size), [_picture()] * shown) for shown in shows_image]

    report("warming up")
    with reporting(lambda step: None):
        _hold(
            model, processor, [(question, []) for question, _ in asked[:2]], 2, ours_first=True
        )  # without images: quick
    held = [_hold(model, processor, asked, answer_tokens, ours_first=repeat % 2 == 0) for repeat in range(repeats)]
    latencies = tuple(_latency(number, of_round) for number, of_round in enumerate(zip(*held, strict=True), 1))
    same_answers = all(ours.text == other.text for dialogue in held for ours, other, _ in dialogue)
    last = [dialogue[-1] for dialogue in held]
    images = f"{sum(shows_image)} image(s)"
    return RoundsComparison(
        name="rounds",
        setting=f"time to the first token in round {rounds}; {describe_sizes(config)}, LLM {llm}, {images}, {dtype}",
        note="Weights, images and words are random. "
        + ("All answers were the same, token for token." if same_answers else "SOME ANSWERS DIFFERED."),
        ours_run=Run(label="Conversation", seconds=tuple(ours.first_token for ours, _, _ in last)),
        alternative_run=Run(label="generate, afresh", seconds=tuple(other.first_token for _, other, _ in last)),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(place),
        rounds=latencies,
        same_answers=same_answers,
    )


def _hold(
    model: MiniGeminiForConditionalGeneration,
    processor: MiniGeminiProcessor,
    asked: Sequence[tuple[str, list[Image.Image]]],
    answer_tokens: int,
    *,
    ours_first: bool,
) -> list[tuple[_Said, _Said, int]]:
    """Run a dialogue; both implementations alternate in going first."""
    dialogue = _Dialogue(model, processor, answer_tokens)
    said = []
    for number, (question, images) in enumerate(asked):
        report(f"round {number + 1}", number, len(asked))
        said.append(dialogue.say(question, images, ours_first=ours_first == (number % 2 == 0)))
        times = [format_seconds(each.first_token) for each in said[-1][:2]]
        report("", result=f"round {number + 1}, first token: {times[0]}, afresh {times[1]}")
    return said


def _latency(number: int, of_round: Sequence[tuple[_Said, _Said, int]]) -> RoundLatency:
    return RoundLatency(
        number=number,
        prompt_tokens=of_round[0][2],
        ours_first_token=statistics.median(ours.first_token for ours, _, _ in of_round),
        alternative_first_token=statistics.median(other.first_token for _, other, _ in of_round),
        ours_answer=statistics.median(ours.answer for ours, _, _ in of_round),
        alternative_answer=statistics.median(other.answer for _, other, _ in of_round),
    )


def build_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one word for each id: `word3`, `word4`, ...; unknown words are `<unk>`."""
    words = [*_SPECIAL_TOKENS, *(f"word{number}" for number in range(len(_SPECIAL_TOKENS), vocab_size))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def _question(vocab_size: int) -> str:
    numbers = torch.randint(len(_SPECIAL_TOKENS), vocab_size, (_QUESTION_WORDS,)).tolist()
    return " ".join(f"word{number}" for number in numbers)


def _picture() -> Image.Image:
    return Image.fromarray(torch.randint(0, 256, (480, 640, 3), dtype=torch.uint8).numpy())
