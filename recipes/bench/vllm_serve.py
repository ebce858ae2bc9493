"""Mini-Gemini on vLLM's server, against this package's engine: `mgem bench vllm --environment FOLDER`.

Two questions are answered in one run:

* Are the greedy tokens the same? 20 prompts with one to three pictures and 20 in words, in float32 on both sides. Where
  two answers part, the margin tells why: how much larger our logit of our token is than that of vLLM's token.
* How many requests a second does each answer, from 1, 8 and 32 clients at once? Ours is the engine that `mgem serve`
  calls, as it is shipped, with quantized weights on a CPU.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

from mgem_agent.chat_models.core_engine import CoreEngine
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.cpu_decoding import enable_cpu_decoding
from mgem_agent.errors import ToolError
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, require_positive
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.recipes.bench.serve import Load, joined_loads, run_clients

__all__ = ["Prompt", "SameTokens", "VllmComparison", "bench_vllm", "make_prompts"]

CLIENTS = (1, 8, 32)
ROUNDS = 2
TIMEOUT_S = 600.0
CPU = torch.device("cpu")

_COLOURS = ("red", "yellow", "blue", "green", "white", "black", "orange", "purple", "pink", "brown", "gray")
_ABOUT_ONE = ("What is this?", "Describe the picture.", "What do you see here?", "Which colours are there?")
_ABOUT_SEVERAL = ("What do the pictures show?", "How do they differ?", "Describe the first picture.")
_IN_WORDS = (
    "Name three colours.",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "How many legs does a spider have?",
    "Tell me a story of a fox in one sentence.",
    "What do bees make?",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Give me a name for a cat.",
    "What is two plus three?",
    "List the four seasons.",
    "What is the opposite of cold?",
    "Describe a mountain.",
    "Who wrote Hamlet?",
    "What does a baker do?",
    "Write a short poem about rain.",
    "What is water made of?",
    "Where do penguins live?",
    "Say hello to Anna.",
    "What can I do on a rainy day?",
)


@dataclass(frozen=True)
class Prompt:
    """A question, with pictures or in words.

    Attributes:
        text: The question.
        pictures: The pictures, before the text.
    """

    text: str
    pictures: tuple[Image.Image, ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """Return it as a dialogue for this package."""
        shown = [{"type": "image", "image": picture} for picture in self.pictures]
        return [{"role": "user", "content": [*shown, {"type": "text", "text": self.text}]}]

    def body(self, model: str, tokens: int) -> dict[str, Any]:
        """Return it as a request of OpenAI's protocol, answered greedily.

        Args:
            model: The server's name for the model.
            tokens: Maximum number of tokens.
        """
        shown = [{"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in self.pictures]
        content = [*shown, {"type": "text", "text": self.text}]
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": tokens,
            "temperature": 0,
            "return_token_ids": True,
        }


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class SameTokens(BaseModel):
    """Greedy answers of both.

    Attributes:
        kind: What was asked.
        num_prompts: Number of prompts.
        num_same: Number of answers with the same tokens to the end.
        num_same_prompts: Number of prompts with the same tokens.
        margins: For each answer that differs, how much larger our logit of our token is than that of vLLM's token, at
            the first difference.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    num_prompts: int
    num_same: int
    num_same_prompts: int
    margins: tuple[float, ...]


class VllmComparison(Comparison):
    """Equal tokens, and requests a second by number of clients.

    Attributes:
        same: The equality of greedy answers.
        ours_loads: Requests of our engine.
        vllm_loads: The same requests of vLLM.
    """

    same: tuple[SameTokens, ...]
    ours_loads: tuple[Load, ...]
    vllm_loads: tuple[Load, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def vllm_ratios(self) -> tuple[float, ...]:
        """How many times more requests a second vLLM answers, by number of clients."""
        pairs = zip(self.vllm_loads, self.ours_loads, strict=True)
        return tuple(theirs.requests_per_s / ours.requests_per_s for theirs, ours in pairs)

    def tables(self) -> list[Table]:
        """Return the equality of tokens and the requests a second."""
        tokens = Table("greedy answers", "the same", "prompts the same", "largest margin where they part")
        for same in self.same:
            margin = f"{max(same.margins):.1e}" if same.margins else "–"
            of_all = [f"{count} of {same.num_prompts}" for count in (same.num_same, same.num_same_prompts)]
            tokens.add_row(same.kind, *of_all, margin)
        rates = Table("clients", "ours: a second", "median", "vLLM: a second", "median", "vLLM / ours")
        for ours, theirs, ratio in zip(self.ours_loads, self.vllm_loads, self.vllm_ratios, strict=True):
            cells = [
                text
                for each in (ours, theirs)
                for text in (f"{each.requests_per_s:,.2f}", format_seconds(each.median_s))
            ]
            rates.add_row(str(ours.num_clients), *cells, format_times(ratio))
        for table in (tokens, rates):
            for column in table.columns[1:]:
                column.justify = "right"
        return [tokens, rates]


def make_prompts(number: int = 20) -> tuple[list[Prompt], list[Prompt]]:
    """Return prompts with one to three pictures, and prompts in words.

    Args:
        number: Number of each; every third has two pictures, and every seventh three.
    """
    shown = []
    for index in range(number):
        num_pictures = 3 if index % 7 == 6 else 2 if index % 3 == 2 else 1
        pictures = tuple(_picture(index + place) for place in range(num_pictures))
        questions = _ABOUT_ONE if num_pictures == 1 else _ABOUT_SEVERAL
        shown.append(Prompt(questions[index % len(questions)], pictures))
    words = [Prompt(text) for text in itertools.islice(itertools.cycle(_IN_WORDS), number)]
    return shown, words


def _picture(index: int) -> Image.Image:
    """Draw a shape of one colour before another colour."""
    colour, behind = (_COLOURS[(index + shift) % len(_COLOURS)] for shift in (0, 3))
    picture = Image.new("RGB", (160, 160), behind)
    draw = ImageDraw.Draw(picture)
    box = (20 + index, 30, 120 + index, 130)
    (draw.ellipse if index % 2 else draw.rectangle)(box, fill=colour)
    return picture


def bench_vllm(
    address: str, folder: Path, *, prompts: int = 20, tokens: int = 24, clients: Sequence[int] = CLIENTS
) -> VllmComparison:
    """Compare a running server of vLLM with our engine.

    Args:
        address: Address of its API, which ends in `/v1`.
        folder: The folder that it serves under its name, in float32.
        prompts: Number of prompts with pictures, and of prompts in words.
        tokens: Maximum number of tokens of an answer.
        clients: Numbers of clients.

    Raises:
        InputError: If a number is less than one.
        ToolError: If the server fails.
    """
    require_positive(prompts=prompts, tokens=tokens, **{f"clients[{index}]": n for index, n in enumerate(clients)})
    shown, words = make_prompts(prompts)
    server = _Server(address, folder.name, tokens)
    ours = _Ours.load(folder, tokens, exact=True)
    same = tuple(_compare(kind, asked, server, ours) for kind, asked in (("pictures", shown), ("words", words)))
    ours = _Ours.load(folder, tokens, exact=False)
    mixed = [prompt for pair in zip(shown, words, strict=True) for prompt in pair]
    for side in (server, ours):
        for prompt in (shown[0], words[0]):
            side.ask(prompt)  # warms up
    loads = [_in_turns(number, mixed, server, ours) for number in clients]
    return VllmComparison(
        name="vllm",
        setting=f"{folder.name}, up to {tokens} tokens of an answer, half of the prompts with pictures",
        note="Requests of one client, one after another.",
        ours_run=Run(label="our engine", seconds=loads[0][0].seconds),
        alternative_run=Run(label="vllm serve", seconds=loads[0][1].seconds),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(CPU),
        same=same,
        ours_loads=tuple(pair[0] for pair in loads),
        vllm_loads=tuple(pair[1] for pair in loads),
    )


@dataclass
class _Server:
    """vLLM's server; it may be asked from several threads."""

    address: str
    model: str
    tokens: int
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            timeout=TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_connections=256)
        )
    )

    def answer(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Return the tokens of the prompt and of the answer."""
        answer = self.client.post(f"{self.address}/chat/completions", json=prompt.body(self.model, self.tokens))
        if answer.status_code != 200:
            raise ToolError(f"vLLM's server answered with status {answer.status_code}: {answer.text[:500]}")
        found = answer.json()
        return found["prompt_token_ids"], found["choices"][0]["token_ids"]

    def ask(self, prompt: Prompt) -> None:
        """Send a request, and read its answer."""
        self.answer(prompt)


@dataclass
class _Ours:
    """Our model and engine; it may be asked from several threads."""

    model: MiniGeminiForConditionalGeneration
    processor: MiniGeminiProcessor
    engine: CoreEngine
    tokens: int

    @classmethod
    def load(cls, folder: Path, tokens: int, *, exact: bool) -> _Ours:
        report("loading our model" + (", float32" if exact else ""))
        model = MiniGeminiForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        processor = MiniGeminiProcessor.from_pretrained(folder)
        if not exact:
            enable_cpu_decoding(model)
        return cls(model, processor, CoreEngine(model, processor), tokens)

    def answer(self, prompt: Prompt) -> tuple[list[int], list[int], torch.Tensor]:
        """Return the tokens of the prompt and of the answer, and the logits of each, (tokens, vocabulary)."""
        inputs = self.processor.apply_chat_template(
            prompt.messages(), add_generation_prompt=True, tokenize=True, return_dict=True
        )
        stop = self.processor.stop_token_ids
        made = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=self.tokens,
            eos_token_id=stop,
            pad_token_id=stop[0],
            output_logits=True,
            return_dict_in_generate=True,
        )
        read = inputs["input_ids"][0].tolist()
        return read, made.sequences[0, len(read) :].tolist(), torch.stack([row[0] for row in made.logits])

    def ask(self, prompt: Prompt) -> None:
        """Answer a request."""
        options = {"no_repeat_ngram_size": 0}
        request = TextRequest(prompt.messages(), max_tokens=self.tokens, temperature=0, options=options)
        for _ in self.engine.stream(request):
            pass


def _compare(kind: str, prompts: Sequence[Prompt], server: _Server, ours: _Ours) -> SameTokens:
    """Compare greedy answers."""
    num_same = num_same_prompts = 0
    margins = []
    for prompt in steps(f"greedy answers to {kind}", prompts):
        read, answer, logits = ours.answer(prompt)
        their_read, theirs = server.answer(prompt)
        num_same_prompts += their_read == read
        num_same += answer == theirs
        place = next((at for at, pair in enumerate(zip(answer, theirs, strict=False)) if pair[0] != pair[1]), None)
        if place is not None:
            margins.append(float(logits[place, answer[place]] - logits[place, theirs[place]]))
    report("", result=f"{kind}: {num_same} of {len(prompts)} answers have the same tokens")
    return SameTokens(
        kind=kind,
        num_prompts=len(prompts),
        num_same=num_same,
        num_same_prompts=num_same_prompts,
        margins=tuple(margins),
    )


class _Asker:
    """A client; prompts are taken in turns by all clients."""

    def __init__(self, side: _Server | _Ours, prompts: itertools.cycle[Prompt]) -> None:
        self._side, self._prompts = side, prompts

    def ask(self) -> None:
        self._side.ask(next(self._prompts))

    def close(self) -> None:
        """Do nothing: all clients share the side."""


def _in_turns(number: int, prompts: Sequence[Prompt], server: _Server, ours: _Ours) -> tuple[Load, Load]:
    """Measure both in turns, so that both see the same load of the machine."""
    num_requests = max(4, number)
    loads: list[list[Load]] = [[], []]
    for _ in steps(f"{number} at once", range(ROUNDS)):
        for side, found in ((ours, loads[0]), (server, loads[1])):
            asked = itertools.cycle(prompts)
            label = "vllm serve" if side is server else "our engine"
            found.append(run_clients(label, number, num_requests, lambda s=side, a=asked: _Asker(s, a)))  # type: ignore[misc]
    both = joined_loads(loads[0]), joined_loads(loads[1])
    report(
        "", result="{} at once: {:.2f} requests a second, vLLM {:.2f}".format(number, *(x.requests_per_s for x in both))
    )
    return both
