"""Answers of the core model to the questions of a benchmark, in batches.

The questions of a batch are padded on the left and generated together. A picture is encoded once, also when several
questions or choices show it, because benchmarks ask them one after another. An answer that does not fit the context is
cut to the room that is left: benchmarks ask for up to 16,384 tokens, and released models have 4,096.

Shapes: b prompts, l tokens of the longest, k tokens of the longest continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.context import max_context
from mgem_agent.core_model.dialogue.dialogue_cache import DialogueCache, DialoguePrompt
from mgem_agent.core_model.dialogue.dialogue_images import images_of
from mgem_agent.core_model.dialogue.streaming import ending_options, input_device
from mgem_agent.core_model.prompts.batch import pad_rows
from mgem_agent.core_model.quantization import default_device_map
from mgem_agent.errors import InputError

__all__ = ["BenchmarkAnswer", "BenchmarkModel", "Dialogue", "generation_options", "limit_images"]

DEFAULT_NEW_TOKENS = 1024
"""Length of an answer for a task that sets none; the authors' scripts use it too."""

Dialogue = Sequence[Mapping[str, Any]]
"""Messages as the processor's `apply_chat_template` takes them."""


@dataclass(frozen=True)
class BenchmarkAnswer:
    """An answer.

    Attributes:
        text: The text, without the stop string.
        num_input_tokens: Tokens of the prompt, including visual tokens.
        num_output_tokens: Tokens generated.
    """

    text: str
    num_input_tokens: int
    num_output_tokens: int


class BenchmarkModel:
    """Answers batches of dialogues, and scores continuations.

    Args:
        model: The model, in evaluation mode.
        processor: Its processor.
    """

    def __init__(self, model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor) -> None:
        self.model = model
        self.processor = processor
        self._cache = DialogueCache(model, processor)

    @classmethod
    def open(cls, name: str, *, device: str | None = None, dtype: str | None = None) -> Self:
        """Load a model.

        Args:
            name: `nano`, a folder or a hub id.
            device: The device; by default all GPUs of this machine, or the CPU.
            dtype: Name of the data type; by default bfloat16 on a GPU, otherwise float32.

        Raises:
            InputError: If there is no such data type.
            CheckpointError: If the weights are missing or do not fit.
        """
        kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
        if dtype is not None and dtype not in kinds:
            raise InputError(f"dtype is {dtype!r}. Allowed: {', '.join(map(repr, kinds))}.")
        if name == "nano":
            from mgem_agent.nano import find_nano

            name = str(find_nano())
        is_on_gpu = torch.cuda.is_available() if device is None else not device.startswith("cpu")
        place: Any = default_device_map() if device in (None, "cuda") else {"": device}
        chosen = kinds[dtype] if dtype is not None else torch.bfloat16 if is_on_gpu else torch.float32
        model = MiniGeminiForConditionalGeneration.from_pretrained(name, dtype=chosen, device_map=place).eval()
        return cls(model, MiniGeminiProcessor.from_pretrained(name))

    @torch.inference_mode()
    def answer(
        self, dialogues: Sequence[Dialogue], options: Mapping[str, Any], until: Sequence[str] = ()
    ) -> list[BenchmarkAnswer]:
        """Answer dialogues as one batch.

        Args:
            dialogues: The dialogues; each ends with the user's turn.
            options: Options of `generate`, from :func:`generation_options`.
            until: Strings that end an answer.

        Raises:
            ContextOverflowError: If a prompt is longer than the context.
        """
        prompts = [self._prompt(dialogue) for dialogue in dialogues]
        longest = max(len(prompt.input_ids) for prompt in prompts)
        limit = max_context(self.model.config)
        wanted: int = options["max_new_tokens"]
        room = wanted if limit is None else max(1, min(wanted, limit - longest))
        inputs = self._inputs(prompts)
        completed = ending_options(self.model, self.processor, {**options, "max_new_tokens": room})
        produced: Tensor = self.model.generate(**inputs, **completed)
        stop_ids = set(completed["eos_token_id"])
        rows = [_up_to_stop(row.tolist(), stop_ids) for row in produced[:, longest:]]
        texts = self.processor.batch_decode(rows, skip_special_tokens=True)
        return [
            BenchmarkAnswer(_cut(text, until).strip(), len(prompt.input_ids), len(row))
            for text, prompt, row in zip(texts, prompts, rows, strict=True)
        ]

    @torch.inference_mode()
    def score(self, dialogues: Sequence[Dialogue], continuations: Sequence[str]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation as the answer, and whether it is the greedy answer.

        White space around a continuation does not count: the format of a dialogue has its own before an answer.

        Args:
            dialogues: One for each continuation.
            continuations: The texts.
        """
        prompts = [self._prompt(dialogue) for dialogue in dialogues]
        answered = [
            self._prompt(dialogue, prefill=text.strip())
            for dialogue, text in zip(dialogues, continuations, strict=True)
        ]
        shared = [_common(a.input_ids, b.input_ids) for a, b in zip(prompts, answered, strict=True)]
        counts = [len(prompt.input_ids) - num for prompt, num in zip(answered, shared, strict=True)]
        inputs = self._inputs(answered)
        logits = self.model(**inputs, logits_to_keep=max(counts) + 1).logits.float().log_softmax(-1)  # (b, k + 1, v)
        scores = []
        for row, (ids, count) in enumerate(zip(inputs["input_ids"], counts, strict=True)):
            told = ids[len(ids) - count :]
            ranks = logits[row, logits.shape[1] - count - 1 : -1]  # the score of a token is one position before it
            likely = ranks.gather(1, told[:, None].to(ranks.device))
            scores.append((float(likely.sum()), bool((ranks.argmax(-1) == told.to(ranks.device)).all())))
        return scores

    def _prompt(self, dialogue: Dialogue, prefill: str = "") -> DialoguePrompt:
        keys = [self._cache.images.add(image) for image in images_of(dialogue)]
        self._cache.images.encode(keys)
        return self._cache.prompt(dialogue, keys, prefill=prefill)

    def _inputs(self, prompts: Sequence[DialoguePrompt]) -> dict[str, Any]:
        """Return the model's inputs, `input_ids` (b, l), `attention_mask` (b, l) and the encoded images."""
        device, tokenizer = input_device(self.model), self.processor.tokenizer
        filling = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        width = max(len(prompt.input_ids) for prompt in prompts)
        rows = [prompt.input_ids for prompt in prompts]
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor(pad_rows(rows, width, filling or 0, "left"), device=device),
            "attention_mask": torch.tensor(pad_rows([[1] * len(row) for row in rows], width, 0, "left"), device=device),
        }
        shown = [key for prompt in prompts for key in prompt.image_keys]
        if shown:
            features: Any = [self._cache.images.features[key] for key in shown]
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=features)}
        self._cache.images.retain(set(shown))
        return inputs


def generation_options(asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a task's `generation_kwargs` as options of `generate`, and the strings that end an answer.

    Decoding is greedy unless the task asks for sampling: by `do_sample`, or by a temperature if it leaves that out.

    Args:
        asked: The task's settings. Names that belong to other models, such as `image_aspect_ratio`, are ignored.

    Examples:
        >>> options, until = generation_options({"max_new_tokens": 16, "temperature": 0.2, "do_sample": False})
        >>> options["do_sample"], options["max_new_tokens"], until
        (False, 16, ())
    """
    until = asked.get("until") or ()
    options: dict[str, Any] = {
        "max_new_tokens": int(asked.get("max_new_tokens") or DEFAULT_NEW_TOKENS),
        "num_beams": int(asked.get("num_beams") or 1),
    }
    temperature = float(asked.get("temperature") or 0)
    wants_sampling = asked.get("do_sample")
    if wants_sampling is None:
        wants_sampling = temperature > 0
    if wants_sampling and temperature > 0:
        given = {name: asked[name] for name in ("top_p", "top_k") if asked.get(name) is not None}
        options |= {"do_sample": True, "temperature": temperature, **given}
    else:
        options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if asked.get("repetition_penalty") is not None:
        options["repetition_penalty"] = float(asked["repetition_penalty"])
    return options, (until,) if isinstance(until, str) else tuple(until)


def limit_images(dialogue: Dialogue, most: int) -> list[dict[str, Any]]:
    """Return a dialogue with its first images only.

    Args:
        dialogue: The dialogue.
        most: Number of images to keep. The authors' code shows one.
    """
    kept, left = [], most
    for message in dialogue:
        content = message["content"]
        if isinstance(content, str):
            kept.append(dict(message))
            continue
        parts = []
        for part in content:
            if part["type"] == "image":
                left -= 1
            if part["type"] != "image" or left >= 0:
                parts.append(part)
        kept.append({**message, "content": parts})
    return kept


def _up_to_stop(ids: list[int], stop_ids: set[int]) -> list[int]:
    return next((ids[:place] for place, token in enumerate(ids) if token in stop_ids), ids)


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        if stop:
            text = text.partition(stop)[0]
    return text


def _common(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return the length of the common beginning of two prompts."""
    same = 0
    for a, b in zip(ids, others, strict=False):
        if a != b:
            break
        same += 1
    return same
