"""A failure of any provider's package is one of our own errors, read from its status and its words."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError as LangChainOverflow
from langchain_core.language_models import GenericFakeChatModel

from mgem_agent.chat_models.reasoner_errors import address_of, own_error, refuses_usage
from mgem_agent.errors import (
    ContextOverflowError,
    InputError,
    ReasonerOutputError,
    ReasonerPicturesError,
    ReasonerRequestError,
    ReasonerUnavailableError,
)
from mgem_agent.testing import ScriptedReasoner


class Elsewhere(GenericFakeChatModel):
    """A chat model with an address."""

    model: str = "tiny"
    base_url: str = "https://me:secret-word@host/v1"


class StatusError(Exception):
    """As providers' packages raise them."""

    def __init__(self, status_code: int | None, message: str) -> None:
        self.status_code = status_code
        super().__init__(message)


REASONER = Elsewhere(messages=iter([]))


def read(status: int | None, message: str) -> Any:
    return own_error(StatusError(status, message), REASONER)


@pytest.mark.parametrize(
    ("message", "limit", "asked"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", 200_000, 210_000),  # Anthropic
        (
            "The input token count (1,200,000) exceeds the maximum number of tokens allowed (1,048,576).",
            1_048_576,
            1_200_000,
        ),  # Gemini
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens", 4_096, 5_000),  # TGI
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4_096, 5_000),  # SGLang
        ("Prompt contains 5000 tokens, too large for model with 4096 maximum context length", 4_096, 5_000),  # Mistral
        (
            "Input tokens exceed the configured limit of 272000 tokens. Yours resulted in 300000.",
            272_000,
            300_000,
        ),
        ("Trying to keep the first 5000 tokens. The model is loaded with context length of only 4096", 4_096, 5_000),
    ],
)
def test_servers_word_a_full_context_in_many_ways(message: str, limit: int, asked: int) -> None:
    found = read(400, message)
    assert isinstance(found, ContextOverflowError)
    assert (found.max_context, found.num_text_tokens) == (limit, asked)


def test_a_full_context_may_come_without_numbers_or_status() -> None:
    found = own_error(LangChainOverflow("too much"), REASONER)
    assert isinstance(found, ContextOverflowError) and found.max_context is None
    assert "its context is shorter" in str(found)


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("At most 1 image(s) may be provided in one prompt.", 1),
        ("Too many images: 9 > 8", 8),
        ("This model supports up to 5 images.", 5),
        ("At most 0 image(s) may be provided in one prompt.", 0),
        ("This model does not support image input.", 0),
    ],
)
def test_a_model_may_take_fewer_pictures(message: str, most: int) -> None:
    found = read(400, message)
    assert isinstance(found, ReasonerPicturesError) and found.max_pictures == most
    assert not isinstance(own_error(StatusError(400, message), REASONER, shows_pictures=False), ReasonerPicturesError)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ReasonerRequestError, False),
        (401, ReasonerRequestError, False),
        (404, ReasonerRequestError, False),
        (408, ReasonerUnavailableError, True),
        (429, ReasonerUnavailableError, True),
        (503, ReasonerUnavailableError, True),
    ],
)
def test_each_status_has_its_error(status: int, kind: type, retryable: bool) -> None:
    found = read(status, "no")
    assert type(found) is kind and found.retryable is retryable
    assert str(found).startswith(f"The reasoner 'tiny' at https://me:(hidden)@host/v1 answered with HTTP {status}: no.")


def test_failures_of_the_connection() -> None:
    assert isinstance(own_error(TimeoutError("slow"), REASONER), ReasonerUnavailableError)
    assert isinstance(own_error(ConnectionError("refused"), REASONER), ReasonerUnavailableError)
    found = own_error(ValueError("No generation chunks were returned"), REASONER)
    assert isinstance(found, ReasonerOutputError) and "ends in /v1" in str(found)


def test_what_is_no_failure_of_a_server_is_left_alone() -> None:
    assert own_error(KeyError("a fault of ours"), REASONER) is None
    assert own_error(ConnectionError("the hub"), ScriptedReasoner(script=[])) is None
    known = InputError("known")
    assert own_error(known, REASONER) is known


def test_long_words_are_cut() -> None:
    assert len(str(read(400, "word " * 500))) < 500


def test_refusing_usage_and_addresses() -> None:
    assert refuses_usage(StatusError(400, "Unrecognized request argument supplied: stream_options"))
    assert not refuses_usage(StatusError(400, "no"))
    assert (address_of(REASONER), address_of(ScriptedReasoner(script=[]))) == ("https://me:(hidden)@host/v1", "")
