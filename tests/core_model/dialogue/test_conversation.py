"""A dialogue says what it would say if it were run afresh, and computes only what is new."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

from mgem_agent.core_model import Conversation, MiniGeminiForConditionalGeneration, RoundUsage
from mgem_agent.core_model.in_vocabulary import chunks_pictures
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.errors import ContextOverflowError, ImageError, InputError, MgemError, PromptError

Make = Callable[..., MiniGeminiForConditionalGeneration]

FAMILIES = {
    "llama": {},
    "gemma": {"tie_word_embeddings": False},
    "gemma2": {"tie_word_embeddings": False, "sliding_window": 16, "final_logit_softcapping": None},
    "gemma3_text": {"tie_word_embeddings": False, "sliding_window": 16, "num_hidden_layers": 6},
    "mistral": {"sliding_window": 16},
    "mixtral": {},
    "qwen3": {},
    "llama, hd": {"hd": True},
    "lfm2, with recurrent layers": {"layer_types": ["conv", "full_attention"]},
}


@pytest.fixture
def begin(make_model: Make, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Conversation]:
    """A new conversation of short answers, in which no white space and no special token is generated."""

    def begin(
        family: str = "llama", *, template: str = "chatml", max_new_tokens: int | None = 8, **options: Any
    ) -> Conversation:
        model = make_model(
            family.split(",")[0], **{"initializer_range": 0.3, "max_position_embeddings": 1024, **options}
        )
        model.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
        model.config.prompt_template = template
        processor = MiniGeminiProcessor.from_model_config(model.config, tokenizer)
        defaults = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
        return Conversation(model, processor, system="Be brief.", **defaults)

    return begin


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 255, (20 + side, 30, 3), dtype=np.uint8)) for side in range(4)]


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    """So small a model is quickest on one thread, above all on a machine that does other work too."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def leaves_no_thread() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "mgem-generate"] == []


@pytest.fixture
def short_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-fill in many passes, which begin and end in the middle of images."""
    monkeypatch.setattr("mgem_agent.core_model.dialogue.prefix_cache._TOKENS_PER_PASS", 23)


class AtStep(LogitsProcessor):
    """Do something before a certain new token is chosen."""

    def __init__(self, step: int, action: Callable[[Tensor], Any]) -> None:
        self.step, self.action, self.num_steps = step, action, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.num_steps += 1
        result = self.action(scores) if self.num_steps == self.step else None
        return result if isinstance(result, Tensor) else scores


def at_step(step: int, action: Callable[[Tensor], Any]) -> LogitsProcessorList:
    return LogitsProcessorList([AtStep(step, action)])


def emit(token_id: int) -> Callable[[Tensor], Tensor]:
    return lambda scores: torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token_id]), 0.0)


def fail(scores: Tensor) -> None:
    raise MemoryError("no more room")


def afresh(conversation: Conversation, **options: Any) -> str:
    """What the model says to the dialogue up to its last answer, from nothing but its messages."""
    model, processor = conversation.model, conversation.processor
    inputs = processor.apply_chat_template(
        conversation.messages[:-1], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    ids = model.generate(
        **inputs, **{"max_new_tokens": 8, "eos_token_id": processor.stop_token_ids, "pad_token_id": 3, **options}
    )
    return str(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def usage_of(conversation: Conversation) -> RoundUsage:
    assert conversation.usage is not None
    return conversation.usage


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Record the keyword arguments of each call of a method."""
    calls: list[Any] = []
    method = getattr(owner, name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)
    return calls


@pytest.mark.usefixtures("short_passes")
@pytest.mark.parametrize("family", FAMILIES)
def test_it_says_what_it_would_say_afresh(
    begin: Callable[..., Conversation], pictures: list[Image.Image], family: str
) -> None:
    conversation = begin(family, template="vicuna_v1", **FAMILIES[family])
    answers = []
    for text, images in [
        ("What is it?", pictures[0]),
        ("And then?", ()),
        ("This again, and two more?", [pictures[0], pictures[3], pictures[1]]),
        ("Why?", []),
    ]:
        answers.append(conversation.say(text, images))
        assert answers[-1] == afresh(conversation)
    assert len(set(answers)) > 1  # or the test would say little
    assert conversation.num_tokens == len(
        conversation.processor.apply_chat_template(conversation.messages, tokenize=True)[0]
    )


def test_only_what_is_new_is_computed(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = begin()
    model = conversation.model.model
    passes = count_calls(monkeypatch, model.language_model, "forward")
    mined = count_calls(monkeypatch, model.mining, "forward")
    prepared = count_calls(monkeypatch, type(conversation.processor.image_processor), "_square_tensor")

    def lengths() -> list[int]:
        found = [each["inputs_embeds"].shape[1] for each in passes]
        passes.clear()
        return found

    conversation.say("What is it?", pictures[0])
    first = conversation.num_tokens
    question = first - 8 - len("<|im_end|>\n")
    assert conversation.usage == RoundUsage(question, 16, 0, 8)
    assert lengths() == [question - 1, *[1] * 8]
    assert conversation.num_cached_tokens == question + 7  # all but the last token that was chosen

    conversation.say("And then?")
    new = len("?<|im_end|>\n<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\n")
    assert lengths() == [new - 1, *[1] * 8]
    assert conversation.usage == RoundUsage(question + 7 + new, 16, question + 7, 8)

    conversation.say("The same?", pictures[0])
    assert [len(mined), len(prepared)] == [1, 1]
    conversation.say("And this?", [pictures[1], pictures[0]])
    assert [len(mined), len(prepared)] == [2, 2]
    assert usage_of(conversation).image_tokens == 4 * 16


def test_the_same_picture_is_known_by_what_it_shows(
    begin: Callable[..., Conversation],
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    conversation = begin()
    mined = count_calls(monkeypatch, conversation.model.model.mining, "forward")
    pictures[0].save(tmp_path / "one.png")
    pictures[0].save(tmp_path / "two.bmp")
    conversation.say("A?", [tmp_path / "one.png", str(tmp_path / "two.bmp"), np.asarray(pictures[0])])
    assert usage_of(conversation).image_tokens == 48
    assert len(mined) == 1
    assert conversation.say("B?", pictures[1]) == afresh(conversation)


def test_neighbouring_images_are_told_apart(begin: Callable[..., Conversation], pictures: list[Image.Image]) -> None:
    conversation = begin()
    conversation.processor.chat_template = (
        "{% for message in messages if message['role'] != 'system' %}{% for part in message['content'] %}"
        "{{ image_token if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}"
    )
    one, two = pictures[:2]
    for images in ([one, one, two], [one, one, one], [one, two, two], [two, one]):
        conversation.say("?", images)
        assert conversation.messages[-1]["content"] == afresh(conversation)
        kept = usage_of(conversation).cached_tokens
        assert kept % 16 == 0  # whole images
        conversation.undo()


@pytest.mark.usefixtures("short_passes")
def test_undo_and_another_question(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = begin()
    mined = count_calls(monkeypatch, conversation.model.model.mining, "forward")
    conversation.say("What is it?", pictures[0])
    before = conversation.messages
    tokens = conversation.num_tokens
    conversation.say("And this?", pictures[1])
    conversation.say("Why?")
    conversation.undo(2)
    assert (conversation.messages, conversation.num_tokens) == (before, tokens)
    said = conversation.say("And that?", [pictures[1], pictures[2]])
    assert said == afresh(conversation)
    assert usage_of(conversation).cached_tokens >= tokens - len("?<|im_end|>\n")
    assert len(mined) == 3 + 1  # afresh, all three are encoded at once
    conversation.undo(2)
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]
    assert conversation.num_tokens == 0
    assert conversation.say("Hello?") == afresh(conversation)


@pytest.mark.parametrize("rounds", [0, 2, -1])
def test_refuses_to_undo_what_is_not_there(begin: Callable[..., Conversation], rounds: int) -> None:
    conversation = begin()
    conversation.say("Hello?")
    with pytest.raises(InputError, match=rf"^Cannot undo {rounds} round\(s\): the dialogue has 1\.$"):
        conversation.undo(rounds)


def test_images_that_are_shown_no_more_are_forgotten_in_time(
    begin: Callable[..., Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgem_agent.core_model.dialogue.image_memory._NUM_SPARE", 2)
    conversation = begin(max_new_tokens=1)
    mined = count_calls(monkeypatch, conversation.model.model.mining, "forward")
    shades = [Image.new("L", (9, 9), 50 * index) for index in range(4)]
    conversation.say("Kept?", shades[0])
    for shade in shades[1:]:
        conversation.say("Shown?", shade)
        conversation.undo()
    for index, count in ((0, 4), (3, 4), (2, 4), (1, 5)):
        conversation.say("Again?", shades[index])
        assert len(mined) == count
        conversation.undo()


def test_messages_are_a_copy(begin: Callable[..., Conversation], pictures: list[Image.Image]) -> None:
    conversation = begin()
    answer = conversation.say("What is it?", pictures[0])
    messages = conversation.messages
    assert messages == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "What is it?"}],
        },
        {"role": "assistant", "content": answer},
    ]
    messages[1]["content"].clear()
    messages.clear()
    assert len(conversation.messages[1]["content"]) == 2


def test_asking_for_a_picture_is_part_of_the_message(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    assert conversation.say("A cat.", draw=True) == afresh(conversation)
    assert conversation.messages[1] == {"role": "user", "content": "A cat.", "draw": True}


def test_an_answer_has_no_white_space_at_its_ends(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    order = iter([4, 5, 33, 5, 5, 34, 5, 4])

    class InOrder(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            return emit(next(order))(scores)

    pieces = list(conversation.stream("Hello?", logits_processor=LogitsProcessorList([InOrder()])))
    assert pieces == ["<", "  ="]
    assert conversation.messages[-1]["content"] == "<  ="
    assert usage_of(conversation).output_tokens == 8
    assert conversation.say("More?") == afresh(conversation)


def test_an_empty_answer_is_an_answer(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    assert conversation.say("Hello?", logits_processor=at_step(1, emit(2))) == ""
    assert conversation.messages[-1] == {"role": "assistant", "content": ""}
    assert usage_of(conversation).output_tokens == 1
    assert conversation.say("Nothing?") == afresh(conversation)


def test_sampling_with_a_seed_is_repeatable(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    options = {"do_sample": True, "temperature": 1.5}

    def sample(seed: int) -> list[str]:
        said = [conversation.say("Hello?", seed=seed, **options), conversation.say("More?", seed=seed, **options)]
        conversation.undo(2)
        return said

    first = sample(3)
    assert sample(3) == first
    conversation.reset()
    assert sample(3) == first
    assert sample(4) != first


def test_defaults_of_all_rounds_and_options_of_one(make_model: Make, tokenizer: PreTrainedTokenizerFast) -> None:
    model = make_model()
    processor = MiniGeminiProcessor.from_model_config(model.config, tokenizer, prompt_template="chatml")
    conversation = Conversation(model, processor, max_new_tokens=3)
    conversation.say("a")
    assert usage_of(conversation).output_tokens == 3
    conversation.say("b", max_new_tokens=2)
    assert usage_of(conversation).output_tokens == 2


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"prefill_chunk_size": 4},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_more_options_of_generate(
    begin: Callable[..., Conversation], pictures: list[Image.Image], options: dict[str, Any]
) -> None:
    conversation = begin()
    if "prefill_chunk_size" in options and not chunks_pictures():
        with pytest.raises(InputError, match="'prefill_chunk_size' of generate does not work with pictures in transf"):
            conversation.say("What is it?", pictures[:1], **options)
        return
    for text, images in (("What is it?", pictures[:1]), ("And then?", ())):
        assert conversation.say(text, images, **options) == afresh(conversation, **options)


def test_a_context_that_overflows_computes_nothing(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = begin(max_position_embeddings=200, max_new_tokens=None)
    conversation.say("What is it?", pictures[0], max_new_tokens=4)
    before, cached = conversation.messages, conversation.num_cached_tokens
    mined = count_calls(monkeypatch, conversation.model.model.mining, "forward")
    passes = count_calls(monkeypatch, conversation.model.model.language_model, "forward")
    message = (
        r"^The prompt does not fit into the context: 7 image\(s\) take 112 tokens, "
        r".* and 1 new tokens were requested, .* holds 200"
    )
    with pytest.raises(ContextOverflowError, match=message):
        conversation.say("These?", pictures[1:] * 2)
    with pytest.raises(ContextOverflowError, match="and 150 new tokens were requested"):
        conversation.say("More?", max_new_tokens=150)
    assert (mined, passes) == ([], [])
    assert (conversation.messages, conversation.num_cached_tokens) == (before, cached)
    conversation.say("And?")  # as long as the context has room
    assert usage_of(conversation).input_tokens + usage_of(conversation).output_tokens == 200


def test_a_picture_that_cannot_be_read(begin: Callable[..., Conversation], pictures: list[Image.Image]) -> None:
    conversation = begin()
    with pytest.raises(ImageError, match="There is no file 'nowhere.png'"):
        conversation.say("What is it?", [pictures[0], "nowhere.png"])
    with pytest.raises(PromptError, match="no content"):
        conversation.say(None)  # type: ignore[arg-type]
    assert len(conversation.messages) == 1
    assert conversation.say("Hello?") == afresh(conversation)


@pytest.mark.parametrize("where", ["image", "prefill", "answer"])
def test_a_round_that_fails_leaves_the_dialogue_as_it_was(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    conversation = begin()
    conversation.say("What is it?", pictures[0])
    before, usage = conversation.messages, conversation.usage
    language_model = conversation.model.model.language_model
    said: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(MemoryError, match="no more room"):
        options: dict[str, Any] = {}
        if where == "image":
            patch.setattr(conversation.model.model.mining, "forward", lambda *args, **kwargs: fail(args[0]))
        elif where == "prefill":
            # The first layer gets its keys, the second does not.
            patch.setattr(language_model.layers[1], "forward", lambda *args, **kwargs: fail(args[0]))
        else:
            options["logits_processor"] = at_step(4, fail)
        said.extend(conversation.stream("And this?", pictures[1], **options))
    assert (conversation.messages, conversation.usage) == (before, usage)
    assert conversation.say("And this?", pictures[1]) == afresh(conversation)


@pytest.mark.parametrize("how", ["event", "close", "ctrl-c"])
def test_a_cancelled_answer_is_kept_as_far_as_it_was_said(begin: Callable[..., Conversation], how: str) -> None:
    conversation = begin(max_new_tokens=100)
    whole = conversation.say("Hello?")
    conversation.undo()
    cancel = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    options = {
        "event": {"cancel": cancel, "logits_processor": at_step(5, lambda scores: cancel.set())},
        "close": {},
        "ctrl-c": {"logits_processor": at_step(20, lambda scores: signal.pthread_kill(main, signal.SIGINT))},
    }[how]
    stream = conversation.stream("Hello?", **options)
    said = [next(stream) for _ in range(3)]
    if how == "close":
        stream.close()
    elif how == "event":
        said.extend(stream)
        assert len(said) == 5
    else:
        with pytest.raises(KeyboardInterrupt):
            for piece in stream:
                said.append(piece)
    answer = "".join(said)
    assert whole.startswith(answer) and len(answer) < 100
    assert conversation.messages[-1] == {"role": "assistant", "content": answer, "cancelled": True}
    assert usage_of(conversation).output_tokens >= 3
    assert conversation.say("And then?", max_new_tokens=8) == afresh(conversation)


@pytest.mark.usefixtures("short_passes")
@pytest.mark.parametrize("where", ["before", "image", "prefill"])
def test_a_round_that_is_cancelled_before_a_word_is_taken_back(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    conversation = begin()
    conversation.say("What is it?", pictures[0])
    before, usage = conversation.messages, conversation.usage
    cancel = threading.Event()
    trunk = conversation.model.model
    calls: list[int] = []
    method = {"before": "", "image": "get_image_features", "prefill": "forward"}[where]
    last = {"before": 0, "image": 1, "prefill": 2}[where]
    if not method:
        cancel.set()
    with monkeypatch.context() as patch:
        if method:
            target = conversation.model if where == "image" else trunk
            original = getattr(target, method)

            def counted(*args: Any, **kwargs: Any) -> Any:
                calls.append(1)
                if len(calls) == last:
                    cancel.set()
                return original(*args, **kwargs)

            patch.setattr(target, method, counted)
        assert conversation.say("And these?", pictures[1:], cancel=cancel) == ""
        assert len(calls) == last  # no further batch of images, and no further pass
    assert (conversation.messages, conversation.usage) == (before, usage)
    assert conversation.say("And these?", pictures[1:]) == afresh(conversation)


def test_an_event_that_comes_too_late_cancels_nothing(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    cancel = threading.Event()
    conversation.say("Hello?", cancel=cancel, logits_processor=at_step(8, lambda scores: cancel.set()))
    assert "cancelled" not in conversation.messages[-1]


def test_one_round_at_a_time(begin: Callable[..., Conversation]) -> None:
    conversation = begin()
    stream = conversation.stream("Hello?")
    assert conversation.num_cached_tokens == 0  # nothing happens before the first piece is asked for
    next(stream)
    message = (
        "^This conversation is still answering. Read its stream to the end or close it first, or give each thread "
    )
    for call in (lambda: conversation.say("More?"), conversation.undo, conversation.reset, conversation.fork):
        with pytest.raises(MgemError, match=message):
            call()
    rest = list(stream)
    assert len(rest) == 7
    assert conversation.say("More?") == afresh(conversation)


def test_reset_leaves_the_system_message(begin: Callable[..., Conversation], pictures: list[Image.Image]) -> None:
    conversation = begin()
    first = conversation.say("What is it?", pictures[0])
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]
    assert (conversation.num_cached_tokens, conversation.num_tokens, conversation.usage) == (0, 0, None)
    assert conversation.say("What is it?", pictures[0]) == first


def test_a_fork_goes_its_own_way(
    begin: Callable[..., Conversation], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = begin()
    conversation.say("What is it?", pictures[0])
    mined = count_calls(monkeypatch, conversation.model.model.mining, "forward")
    twin = conversation.fork()
    assert (twin.messages, twin.usage) == (conversation.messages, conversation.usage)
    answers = [each.say(text) for each, text in ((conversation, "Left?"), (twin, "Right, then?"))]
    assert mined == []
    assert usage_of(twin).cached_tokens > 40
    assert answers == [afresh(each) for each in (conversation, twin)]
    twin.undo(2)
    assert len(conversation.messages) == 5


def test_a_dialogue_that_ends_in_an_image(make_model: Make, tokenizer: PreTrainedTokenizerFast) -> None:
    model = make_model(initializer_range=0.3)
    template = "{% for m in messages %}{{ image_token if m['content'] is not string else m['content'] }}{% endfor %}"
    processor = MiniGeminiProcessor.from_model_config(model.config, tokenizer, chat_template=template)
    conversation = Conversation(model, processor, max_new_tokens=8)
    for shade in (10, 200):
        assert conversation.say("", Image.new("L", (9, 9), shade)) == afresh(conversation).strip()
