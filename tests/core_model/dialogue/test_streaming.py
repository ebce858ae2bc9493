"""Text while it is generated: its pieces, its errors, its end."""

import contextvars
import copy
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast, StoppingCriteria

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, stream_generate
from mgem_agent.core_model.dialogue.streaming import stop_token_ids, stream_tokens
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.errors import ContextOverflowError, InputError

Make = Callable[..., MiniGeminiForConditionalGeneration]
NUM_NEW = 12


@pytest.fixture
def model(make_model: Make) -> MiniGeminiForConditionalGeneration:
    model = make_model(initializer_range=0.3, max_position_embeddings=512)
    model.generation_config.suppress_tokens = [0, 1, 2, 3]  # each token is a character that can be seen
    return model


@pytest.fixture
def processor(model: MiniGeminiForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_model_config(model.config, tokenizer)


@pytest.fixture
def inputs(processor: MiniGeminiProcessor) -> dict[str, Tensor]:
    return dict(processor(images=[Image.new("RGB", (30, 20), "red")], text="See <image>. Say:"))


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


class AtStep(LogitsProcessor):
    """Do something before a certain new token is chosen, and count the steps."""

    def __init__(self, step: int, action: Callable[[Tensor], Any]) -> None:
        self.step, self.action, self.num_steps = step, action, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.num_steps += 1
        result = self.action(scores) if self.num_steps == self.step else None
        return result if isinstance(result, Tensor) else scores


def emit(token_id: int) -> Callable[[Tensor], Tensor]:
    return lambda scores: torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token_id]), 0.0)


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 0.7, "top_k": 20}])
def test_pieces_joined_are_what_generate_says(
    model: Any, processor: Any, inputs: dict[str, Tensor], options: dict[str, Any]
) -> None:
    torch.manual_seed(5)
    whole = model.generate(
        **inputs, max_new_tokens=NUM_NEW, eos_token_id=processor.stop_token_ids, pad_token_id=3, **options
    )
    expected = processor.decode(whole[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    torch.manual_seed(5)
    pieces = list(stream_generate(model, processor, inputs, max_new_tokens=NUM_NEW, **options))
    assert "".join(pieces) == expected
    assert len(pieces) > NUM_NEW // 2


def test_a_tokenizer_does_as_well_as_a_processor(
    model: Any, processor: Any, tokenizer: Any, inputs: dict[str, Tensor]
) -> None:
    pieces = list(stream_generate(model, processor, inputs, max_new_tokens=5))
    assert list(stream_generate(model, tokenizer, inputs, max_new_tokens=5)) == pieces


def test_nothing_happens_before_the_first_piece_is_asked_for(
    model: Any, processor: Any, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "generate", lambda **options: pytest.fail("generate was called"))
    stream_generate(model, processor, inputs)


def test_a_seed_makes_sampling_repeatable_and_leaves_no_trace(
    model: Any, processor: Any, inputs: dict[str, Tensor]
) -> None:
    def sample(seed: int) -> str:
        return "".join(stream_generate(model, processor, inputs, max_new_tokens=NUM_NEW, do_sample=True, seed=seed))

    state = torch.random.get_rng_state()
    first = sample(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert sample(1) == first
    assert sample(2) != first


@pytest.mark.parametrize("token_id", [2, 50], ids=["a special token", "one that is text"])
def test_an_answer_ends_with_a_stop_token_that_is_not_shown(
    model: Any, processor: Any, inputs: dict[str, Tensor], token_id: int
) -> None:
    steps = AtStep(4, emit(token_id))
    options = {} if token_id == 2 else {"eos_token_id": [2, 50]}
    three = "".join(stream_generate(model, processor, inputs, max_new_tokens=3))
    said = stream_generate(
        model, processor, inputs, max_new_tokens=NUM_NEW, logits_processor=LogitsProcessorList([steps]), **options
    )
    assert "".join(said) == three
    assert steps.num_steps == 4


def test_the_dialogue_format_has_stop_tokens_too(model: Any, tokenizer: Any) -> None:
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    model.config.prompt_template = "chatml"
    model.generation_config.eos_token_id = [7, 8]
    processor = MiniGeminiProcessor.from_model_config(model.config, own)
    assert stop_token_ids(model, processor) == [2, 7, 8, 100]
    assert stop_token_ids(model, own) == [2, 7, 8, 100]
    model.generation_config.eos_token_id = None
    assert stop_token_ids(model, tokenizer) == [2]


def test_more_options_of_generate(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    five = "".join(stream_generate(model, processor, inputs, max_new_tokens=5))
    assert "".join(stream_generate(model, processor, inputs, max_new_tokens=9, stop_strings=[five[-2:]])) == five

    class AfterThree(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
            return torch.tensor([input_ids.shape[1] >= inputs["input_ids"].shape[1] + 3])

    assert (
        "".join(stream_generate(model, processor, inputs, max_new_tokens=9, stopping_criteria=[AfterThree()]))
        == (five[:3])
    )


def test_an_error_in_the_thread_is_raised_as_itself(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    def fail(scores: Tensor) -> None:
        raise MemoryError("no more room")

    said = []
    with pytest.raises(MemoryError, match="no more room"):
        for piece in stream_generate(
            model, processor, inputs, max_new_tokens=NUM_NEW, logits_processor=LogitsProcessorList([AtStep(4, fail)])
        ):
            said.append(piece)
    assert len("".join(said)) == 3


def test_a_context_that_overflows(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    with pytest.raises(ContextOverflowError):
        next(stream_generate(model, processor, inputs, max_new_tokens=500))


def test_refuses_more_than_one_answer(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    two = processor(text=["a", "b"])
    with pytest.raises(InputError, match=r"^One prompt can be streamed at a time, got 2\. Stream them one by one\.$"):
        next(stream_generate(model, processor, two))
    message = r"^One answer can be streamed at a time, got 2\. Leave num_return_sequences at 1\.$"
    with pytest.raises(InputError, match=message):
        list(stream_generate(model, processor, inputs, num_return_sequences=2, do_sample=True, max_new_tokens=3))


@pytest.mark.parametrize("step", [1, 5])
def test_cancel_ends_it_within_one_token(model: Any, processor: Any, inputs: dict[str, Tensor], step: int) -> None:
    cancel = threading.Event()
    steps = AtStep(step, lambda scores: cancel.set())
    said = stream_generate(
        model, processor, inputs, cancel=cancel, max_new_tokens=200, logits_processor=LogitsProcessorList([steps])
    )
    assert len("".join(said)) == step
    assert steps.num_steps == step


def test_cancel_beforehand_computes_nothing(
    model: Any, processor: Any, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    cancel.set()
    monkeypatch.setattr(model, "generate", lambda **options: pytest.fail("generate was called"))
    assert list(stream_generate(model, processor, inputs, cancel=cancel)) == []


def test_cancel_while_the_reader_waits(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    cancel, computing, go_on = threading.Event(), threading.Event(), threading.Event()

    def wait(scores: Tensor) -> None:
        computing.set()
        assert go_on.wait(20)

    pieces: list[str] = []

    def read() -> None:
        pieces.extend(
            stream_generate(
                model,
                processor,
                inputs,
                cancel=cancel,
                max_new_tokens=200,
                logits_processor=LogitsProcessorList([AtStep(3, wait)]),
            )
        )

    reader = threading.Thread(target=read)
    reader.start()
    assert computing.wait(20)
    cancel.set()
    go_on.set()
    reader.join(20)
    assert not reader.is_alive()
    assert len("".join(pieces)) == 3


@pytest.mark.parametrize("how", ["close", "drop"])
def test_closing_or_dropping_the_iterator_ends_it(
    model: Any, processor: Any, inputs: dict[str, Tensor], how: str
) -> None:
    steps = AtStep(0, lambda scores: None)
    stream = stream_generate(
        model, processor, inputs, max_new_tokens=400, logits_processor=LogitsProcessorList([steps])
    )
    next(stream)
    if how == "close":
        stream.close()
    else:
        del stream
    assert steps.num_steps < 400
    assert "mgem-generate" not in [thread.name for thread in threading.enumerate()]


def test_ctrl_c_ends_it(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    main = threading.main_thread().ident
    assert main is not None
    steps = AtStep(3, lambda scores: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        for _ in stream_generate(
            model, processor, inputs, max_new_tokens=400, logits_processor=LogitsProcessorList([steps])
        ):
            pass
    assert steps.num_steps < 400


def test_two_streams_at_once_do_not_mix(model: Any, processor: Any, inputs: dict[str, Tensor]) -> None:
    other = dict(processor(text="Say something else:"))
    alone = ["".join(stream_generate(model, processor, each, max_new_tokens=NUM_NEW)) for each in (inputs, other)]
    streams = [stream_generate(model, processor, each, max_new_tokens=NUM_NEW) for each in (inputs, other)]
    said = ["", ""]
    for _ in range(NUM_NEW):
        for index, stream in enumerate(streams):
            said[index] += next(stream, "")
    assert said == alone
    assert [next(stream, None) for stream in streams] == [None, None]


def test_context_variables_reach_the_thread() -> None:
    name = contextvars.ContextVar("name", default="nobody")
    name.set("someone")
    seen: list[str] = []
    assert list(stream_tokens(lambda streamer, stop: seen.append(name.get()))) == []
    assert seen == ["someone"]
