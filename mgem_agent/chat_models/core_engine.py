"""The core model as a text engine. Each call contains the whole dialogue, but only the new part is computed.

The key-value cache of the last call is reused as far as the token ids match; see
`mgem_agent.core_model.dialogue.dialogue_cache`. A prefilled beginning of the answer is part of the prompt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mgem_agent.chat_models.dialogue_pool import CachedDialogue, DialoguePool
from mgem_agent.chat_models.text_engine import PromptSize, TextEnd, TextRequest
from mgem_agent.core_model.context import max_context
from mgem_agent.core_model.dialogue.dialogue_cache import DialogueCache
from mgem_agent.core_model.dialogue.dialogue_images import images_of
from mgem_agent.core_model.dialogue.grammar_constraint import GrammarTokens, can_follow_grammar
from mgem_agent.core_model.dialogue.streaming import stop_token_ids
from mgem_agent.core_model.encoded_picture import file_hash
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import GenerationCancelledError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration
    from mgem_agent.core_model.processing import MiniGeminiProcessor

__all__ = ["CoreEngine"]

_OWN_OPTIONS = (
    "stopping_criteria",
    "streamer",
    "cache",
    "past_key_values",
    "use_cache",
    "num_beams",
    "assistant_model",
)
"""Options of `generate` that this engine sets itself, or that do not work with its cache."""


@dataclass
class _Caches:
    dialogue: DialogueCache
    image_keys: dict[str, int] = field(default_factory=dict)  # by fingerprint


class _FirstToken:
    """A logits processor that changes nothing and keeps the probabilities of the first token, (vocabulary,)."""

    def __init__(self) -> None:
        self.probabilities: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.probabilities is None:
            self.probabilities = scores[0].float().softmax(-1)
        return scores


class CoreEngine:
    """Continues dialogues with the core model. It may be called from any thread.

    Args:
        model: The model.
        processor: The model's processor.
        max_dialogues: Maximum number of dialogues whose caches are kept between calls.

    Attributes:
        hold: Keeps the model on its device while it computes; None if it never leaves it. Its argument says whether the
            answer was cancelled.
    """

    def __init__(
        self,
        model: MiniGeminiForConditionalGeneration,
        processor: MiniGeminiProcessor,
        *,
        max_dialogues: int = 4,
    ) -> None:
        self.model = model
        self.processor = processor
        self.hold: Callable[[Callable[[], bool]], AbstractContextManager[None]] | None = None
        self.follows_grammar = can_follow_grammar(processor.tokenizer)
        self._grammar_tokens: GrammarTokens | None = None
        self.dialogues: DialoguePool[_Caches] = DialoguePool(self._new_caches, max_dialogues)

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        """Yield the answer, as defined by `TextEngine.stream`.

        Raises:
            ImageError: If a picture cannot be read.
            PromptError: If the prompt template does not allow the dialogue.
            ContextOverflowError: If the dialogue leaves no room for the answer; nothing is computed then.
        """
        pictures = {id(source): _image_name(source) for source in images_of(request.dialogue)}
        prints = [_fingerprint(message, pictures) for message in request.dialogue]
        with self.dialogues.lend(prints, request.thread_id) as lent:
            yield from self._answer(request, lent, pictures)

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        """Return how likely the answer begins with each of some words; see :class:`ChoosingEngine`.

        Raises:
            GenerationCancelledError: If it is cancelled.
            MgemError: As for `stream`.
        """
        seen = _FirstToken()
        options = {"no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "logits_processor": [seen]}
        once = replace(request, max_tokens=1, temperature=0, options=options, grammar=None)
        for _ in self.stream(once):
            pass
        if seen.probabilities is None:
            raise GenerationCancelledError("The question was cancelled before the model answered it. Ask again.")
        tokens = [self._first_tokens(choice) for choice in choices]
        shared = {token for place, own in enumerate(tokens) for other in tokens[:place] for token in own & other}
        return [float(seen.probabilities[sorted(own - shared)].sum()) for own in tokens]

    def _first_tokens(self, word: str) -> frozenset[int]:
        encode = self.processor.tokenizer.encode
        forms = (blank + form for form in (word, word.capitalize(), word.upper()) for blank in ("", " "))
        return frozenset(encode(form, add_special_tokens=False)[0] for form in forms)

    def prompt_size(self, request: TextRequest) -> PromptSize:
        """Return the size of a request in tokens, without reading its pictures.

        Raises:
            PromptError: If the prompt template does not allow the dialogue.
        """
        counter = DialogueCache(self.model, self.processor)
        num_images = len(images_of(request.dialogue))
        prompt = counter.prompt(request.dialogue, range(num_images), prefill=request.prefill)
        num_tokens = self.processor.image_tokens.num_tokens
        return PromptSize(
            len(prompt.input_ids) - prompt.num_image_tokens,
            prompt.num_image_tokens,
            num_tokens,
            max_context(self.model.config),
        )

    def rest_caches(self) -> None:
        """Move the caches of idle dialogues to the CPU; each returns with its next answer."""
        self.dialogues.visit(lambda caches: caches.dialogue.rest())

    def _new_caches(self) -> _Caches:
        return _Caches(DialogueCache(self.model, self.processor))

    def _answer(
        self, request: TextRequest, lent: CachedDialogue[_Caches], pictures: Mapping[int, str]
    ) -> Iterator[str | TextEnd]:
        caches = lent.state
        try:
            shown = images_of(request.dialogue)
            image_keys = tuple(_image_key(source, pictures[id(source)], caches) for source in shown)
            prompt = caches.dialogue.prompt(request.dialogue, image_keys, prefill=request.prefill)
            answer = caches.dialogue.answer(prompt, self._options(request))
            with closing(answer.stream(request.cancel, hold=self.hold)) as pieces:
                yield from pieces
            num_tokens = (len(prompt.input_ids), len(answer.produced), prompt.num_image_tokens, answer.num_cached)
            yield TextEnd(*num_tokens, answer.finish_reason)
        finally:
            names = (name for name in pictures.values() if name in caches.image_keys)
            caches.dialogue.images.retain({caches.image_keys[name] for name in names})

    def _options(self, request: TextRequest) -> dict[str, Any]:
        """Return the options of `generate` for a request, including the grammar constraint."""
        options = _options(request)
        if request.grammar is None:
            return options
        if self._grammar_tokens is None:
            stop_ids = stop_token_ids(self.model, self.processor)
            head: Any = self.model.get_output_embeddings()
            num_scores: int = head.weight.shape[0]
            self._grammar_tokens = GrammarTokens(self.processor.tokenizer, num_scores=num_scores, stop_ids=stop_ids)
        constraint = self._grammar_tokens.constraint(request.grammar)
        processors = [*(options.get("logits_processor") or ()), constraint]
        return {
            **options,
            "logits_processor": processors,
            "no_repeat_ngram_size": 0,
        }  # the constraint prevents repetition itself


def _image_key(source: Any, name: str, caches: _Caches) -> int:
    key = caches.image_keys.get(name)
    if key is None or key not in caches.dialogue.images.features:
        key = caches.image_keys[name] = caches.dialogue.images.add(source)
    return key


def _options(request: TextRequest) -> dict[str, Any]:
    """Return the options of `generate` for a request."""
    options: dict[str, Any] = {"max_new_tokens": request.max_tokens, "seed": request.seed}
    if request.temperature == 0:
        options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    else:
        sampling = {"temperature": request.temperature, "top_p": request.top_p}
        given = {name: value for name, value in sampling.items() if value is not None}
        options |= given | ({"do_sample": True} if given else {})
    return {**options, **_checked(request.options)}


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options of `generate` if they are allowed.

    Raises:
        InputError: If the engine sets one of them itself.
    """
    if refused := sorted(set(options) & set(_OWN_OPTIONS)):
        raise InputError(
            f"generation_options contains {', '.join(map(repr, refused))}, which the chat model sets itself. Leave it "
            "out, or call the core model's generate."
        )
    return options


def _image_name(source: Any) -> str:
    """Return a fingerprint of a picture; that of an encoded picture is computed from its bytes, without decoding."""
    if isinstance(source, str) and source[:5].lower() == "data:":
        return hashlib.sha256(source.encode()).hexdigest()
    if isinstance(source, (str, os.PathLike)) and os.path.isfile(source):
        return file_hash(source)
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    picture = load_image(source)
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _fingerprint(message: Mapping[str, Any], pictures: Mapping[int, str]) -> str:
    content = message["content"]
    if not isinstance(content, str):
        content = [part["text"] if part["type"] == "text" else [pictures[id(part["image"])]] for part in content]
    return hashlib.sha256(repr((message["role"], message.get("draw"), content)).encode()).hexdigest()
