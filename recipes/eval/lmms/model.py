"""The classes that lmms-eval runs. It imports them by the names in `plugin.manifest`; nothing else does.

A chat task gives messages; a simple task gives a text and pictures. lmms-eval has no chat form of tasks with the output
type `loglikelihood` or `multiple_choice`: run those with its option `--force_simple`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, TokenCounts  # pyright: ignore[reportMissingImports]
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from lmms_eval.protocol import ChatMessages  # pyright: ignore[reportMissingImports]

from mgem_agent.core_model.dialogue.dialogue_images import images_of
from mgem_agent.core_model.dialogue.streaming import input_device
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.answer_log import AnswerLog, state_of
from mgem_agent.recipes.eval.lmms.answering import BenchmarkModel, generation_options, limit_images
from mgem_agent.recipes.eval.lmms.drawing import DrawnAnswers, TaskDrawing, draws

__all__ = ["MgemChat", "MgemSimple"]


class MgemChat(lmms):  # type: ignore[misc]
    """A Mini-Gemini model for lmms-eval.

    The arguments are those of `--model_args`.

    Args:
        pretrained: `nano`, a folder or a hub id.
        batch_size: Number of questions in a batch.
        device: The device; by default all GPUs, or the CPU. With several processes, each takes its own GPU.
        dtype: Data type of the weights.
        max_images: Show only the first images of a question; the authors' code shows one.
        answers: File that stores each answer as it comes, so that an interrupted task resumes; "" for none.
        draw: When to draw: `auto`, `always` or `never`.
        generator: The image generator.
        pictures: Folder of the pictures.
        max_batch_size: lmms-eval passes it; it is not used.
        **unknown: Other arguments are refused.

    Raises:
        InputError: If an argument is unknown, or the file has answers of another model.
        CheckpointError: If the weights are missing or do not fit.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "nano",
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str | None = None,
        max_images: int | None = None,
        answers: str = "",
        draw: TaskDrawing = "auto",
        generator: str = "nano",
        pictures: str = "pictures",
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise InputError(
                f"Unknown model_args: {', '.join(map(repr, sorted(unknown)))}. Allowed: pretrained, dtype, max_images, "
                "answers, draw, generator, pictures."
            )
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise InputError(f"--batch_size is {batch_size!r}. Give a number of questions, 1 or more.")
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        if self._world_size > 1:
            device = str(self.accelerator.device)
        self.batch_size = int(batch_size)
        self._name, self._max_images, self._draw = pretrained, max_images, draw
        self._generator, self._pictures = generator, Path(pictures)
        self._model = BenchmarkModel.open(pretrained, device=device, dtype=dtype)
        self.device = input_device(self._model.model)
        self._drawn: DrawnAnswers | None = None
        self._open = ExitStack()
        self._log = self._open.enter_context(self._opened(answers, dtype)) if answers else None

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """Answer questions, in the order of the requests."""
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(json.dumps(self._settings(request), sort_keys=True, default=str), []).append(place)
        found: dict[int, Any] = {}
        for places in groups.values():
            for start in range(0, len(places), self.batch_size):
                some = places[start : start + self.batch_size]
                found.update(zip(some, self._answered([requests[place] for place in some]), strict=True))
        return [found[place] for place in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Score continuations, in the order of the requests.

        lmms-eval 0.7.3 takes the choice with the smallest value, so each value is the negative log-likelihood. It turns
        a bare pair into text, so each pair is in a `GenerationResult`, which is passed on as it is.
        """
        rows = [self._scored_pair(request) for request in requests]
        scores: list[Any] = []
        for start in range(0, len(rows), self.batch_size):
            dialogues, continuations = zip(*rows[start : start + self.batch_size], strict=True)
            found = self._model.score(dialogues, continuations)
            scores += [GenerationResult((-likelihood, is_greedy)) for likelihood, is_greedy in found]
        return scores

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the rounds of each request, one after another; a task says when it is over."""
        return [list(self._rounds(request)) for request in requests]

    def _rounds(self, request: Any) -> Iterator[str]:
        _, doc_to_messages, asked, doc_id, task, split = request.args
        options, until = generation_options(asked)
        said: list[str] = []
        info: Any = None
        while True:
            made = doc_to_messages(
                self.task_dict[task][split][doc_id],
                round_idx=len(said),
                previous_output=said or None,
                previous_round_info=info,
            )
            messages, is_over, said_so_far, info = made if isinstance(made, tuple) else (made, False, None, None)
            if is_over or messages is None:
                yield from said_so_far or said
                return
            said = [*said, self._model.answer([self._shown(messages)], options, until)[0].text]
            if not isinstance(made, tuple):  # a task of one round
                yield from said
                return

    def _settings(self, request: Any) -> dict[str, Any]:
        settings: dict[str, Any] = request.args[2]
        return settings

    def _dialogue(self, request: Any) -> list[dict[str, Any]]:
        _, doc_to_messages, _, doc_id, task, split = request.args
        return self._shown(doc_to_messages(self.task_dict[task][split][doc_id]))

    def _shown(self, messages: Any) -> list[dict[str, Any]]:
        dialogue = ChatMessages(messages=messages).to_hf_messages()
        media = {part["type"] for message in dialogue for part in message["content"]} - {"text", "image"}
        if media:
            raise InputError(f"The task shows {' and '.join(sorted(media))}. Mini-Gemini sees pictures only.")
        return dialogue if self._max_images is None else limit_images(dialogue, int(self._max_images))

    def _answered(self, requests: Sequence[Any]) -> list[Any]:
        """Return the answers of requests with equal settings; stored ones are reused."""
        dialogues = [self._dialogue(request) for request in requests]
        tasks = [str(request.args[4]) for request in requests]
        keys = [
            f"{task}/{request.args[3]}/{_hash(dialogue, self._settings(request))}"
            for task, request, dialogue in zip(tasks, requests, dialogues, strict=True)
        ]
        stored = {} if self._log is None else self._log.answers
        missing = [place for place, key in enumerate(keys) if key not in stored]
        fresh: dict[str, dict[str, Any]] = {}
        if missing:
            made = self._made([dialogues[place] for place in missing], requests[missing[0]], [keys[i] for i in missing])
            fresh = {keys[place]: answer for place, answer in zip(missing, made, strict=True)}
            for key, answer in fresh.items():
                if self._log is not None:
                    self._log.add({"id": key, **answer})
        rows = [fresh.get(key) or stored[key] for key in keys]
        return [GenerationResult(row["text"], TokenCounts(row["input"], row["output"])) for row in rows]

    def _made(self, dialogues: Sequence[Any], request: Any, keys: Sequence[str]) -> list[dict[str, Any]]:
        options, until = generation_options(self._settings(request))
        if draws(str(request.args[4]), self._draw):
            texts = self._drawing().answer(dialogues, options["max_new_tokens"], keys)
            return [{"text": text, "input": None, "output": None} for text in texts]
        return [
            {"text": each.text, "input": each.num_input_tokens, "output": each.num_output_tokens}
            for each in self._model.answer(dialogues, options, until)
        ]

    def _drawing(self) -> DrawnAnswers:
        if self._drawn is None:
            from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
            from mgem_agent.tools.registry import make_generator

            reasoner = ChatMiniGemini(model=self._model.model, processor=self._model.processor)
            self._drawn = DrawnAnswers(reasoner, make_generator(self._generator), self._pictures)
        return self._drawn

    def _scored_pair(self, request: Any) -> tuple[list[dict[str, Any]], str]:
        """Return the question and the continuation of a request to score."""
        text, continuation, *place = request.args
        images: Sequence[Any] = ()
        if place:
            doc_to_visual, doc_id, task, split = place
            document = self.task_dict[task][split][doc_id]
            images = _visuals(doc_to_visual, document)
            continuation = continuation(document) if callable(continuation) else continuation
        return _question(text, images), str(continuation)

    def _opened(self, answers: str, dtype: str | None) -> Any:
        settings = {"model": self._name, "weights": state_of(self._name), "dtype": dtype, "images": self._max_images}
        path = Path(answers)
        if self._world_size > 1:
            path = path.with_stem(f"{path.stem}-{self._rank}")
        return AnswerLog.open(path, settings)


class MgemSimple(MgemChat):
    """The same model for tasks that give a text and pictures; `--force_simple` chooses it."""

    is_simple = True

    def _settings(self, request: Any) -> dict[str, Any]:
        settings: dict[str, Any] = request.args[1]
        return settings

    def _dialogue(self, request: Any) -> list[dict[str, Any]]:
        text, _, doc_to_visual, doc_id, task, split = request.args
        images = _visuals(doc_to_visual, self.task_dict[task][split][doc_id])
        dialogue = _question(text, images)
        return dialogue if self._max_images is None else limit_images(dialogue, int(self._max_images))

    def _rounds(self, request: Any) -> Iterator[str]:
        raise InputError("Tasks of several rounds run in lmms-eval's chat form. Leave --force_simple out.")


def _visuals(doc_to_visual: Any, document: Any) -> Sequence[Any]:
    """Return the pictures of a document; none for a task of text."""
    images: Any = doc_to_visual(document) if callable(doc_to_visual) else ()
    return images or ()


def _question(text: str, images: Sequence[Any]) -> list[dict[str, Any]]:
    shown: list[Mapping[str, Any]] = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text.replace("<image>", "").strip()}]}]


def _hash(dialogue: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return a hash of a question's texts and settings. Its pictures belong to the document, which the key names."""
    texts = [[part.get("text") for part in message["content"]] for message in dialogue]
    told = json.dumps([texts, len(images_of(dialogue)), settings], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
