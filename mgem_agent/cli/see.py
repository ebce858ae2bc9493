"""`mgem see`: ask a question about pictures; the answer streams.

The question, the pictures and the model folder are checked before any weights are loaded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mgem_agent.cli.printing import echo, echo_json, open_console
from mgem_agent.cli.typed_path import typed_path
from mgem_agent.errors import InputError
from mgem_agent.user_files import user_path

if TYPE_CHECKING:
    from mgem_agent.core_model.dialogue.conversation import Conversation
    from mgem_agent.resident.conversation import ResidentConversation
    from mgem_agent.settings import Settings

__all__ = ["see"]

_Device = Literal["auto", "cpu", "cuda"]
_DType = Literal["auto", "bfloat16", "float32", "float16"]
_Quantize = Literal["none", "8bit", "4bit"]

_COUNTS = ("input_tokens", "image_tokens", "cached_tokens", "output_tokens")
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def see(
    words: Annotated[
        list[str], typer.Argument(metavar="IMAGE... QUESTION", help="One or more pictures, then the question.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="PATH_OR_ID",
            envvar="MGEM_MODEL",
            help="nano, a model folder or a hub id, downloaded once. Default: the setting model; see mgem config.",
        ),
    ] = None,
    dtype: Annotated[
        _DType, typer.Option(help="Data type of the weights; auto picks the best one for the device.")
    ] = "auto",
    device: Annotated[_Device, typer.Option(help="Where to run; auto uses the GPUs if there are any.")] = "auto",
    quantize: Annotated[_Quantize, typer.Option(help="Quantize the language model's weights to 8 or 4 bits.")] = "none",
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum length of the answer. Default: 512, or less if the context is nearly full."),
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature; 0 is greedy decoding.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed for sampling.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when the answer is complete.")] = False,
) -> None:
    """Ask a question about one picture or several.

    Example: mgem see table.jpg "What is on the table?" --model YanweiLi/MGM-7B

    Ctrl-C stops the answer with exit status 130.
    """
    paths, question = _pictures_and_question(words)
    from mgem_agent.artifacts.store import ON_BLACK
    from mgem_agent.chat_models.finish_reasons import finish_notice
    from mgem_agent.core_model.image_loading import load_image

    pictures = [load_image(typed_path(path)) for path in paths]
    on_black = [
        f"{path}: {ON_BLACK}" for path, each in zip(paths, pictures, strict=True) if each.info.get("ground") == "black"
    ]
    settings = _settings_of(model)
    model = settings.model
    is_as_set = (dtype, device, quantize) == ("auto", "auto", "none")
    conversation: Conversation | ResidentConversation | None = _resident(settings) if is_as_set else None
    start = time.perf_counter()
    if conversation is None:
        folder = _find_folder(model)
        with _spinner(f"Loading {model}"):
            conversation = _load(folder, _loading_options(dtype, device, quantize))
    loaded = time.perf_counter()

    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else _GREEDY
    stream = conversation.stream(question, pictures, max_new_tokens=max_new_tokens, seed=seed, **sampling)
    said: list[str] = []

    def end(*, is_complete: bool) -> None:
        reason = conversation.finish_reason if is_complete else "cancelled"
        notice = finish_notice(reason, is_empty=not "".join(said).strip())
        notices = [*on_black, *([notice] if notice else [])]
        if not as_json:
            echo()
            for each in notices:
                echo(each, err=True)
            return
        usage = conversation.usage
        result = {
            "answer": "".join(said),
            "complete": reason == "stop",
            "finish_reason": reason,
            "notices": notices,
            "question": question,
            "images": paths,
            "model": model,
            "usage": {name: getattr(usage, name) for name in _COUNTS} if usage else None,
            "seconds": {"loading": loaded - start, "answering": time.perf_counter() - loaded},
        }
        echo_json(result)

    try:
        for piece in stream:
            said.append(piece)
            if not as_json:
                echo(piece, nl=False)
    except KeyboardInterrupt:
        end(is_complete=False)
        raise
    end(is_complete=True)


def _pictures_and_question(words: list[str]) -> tuple[list[str], str]:
    *paths, question = words
    if not paths:
        raise InputError(
            f"Give the pictures first, then the question; got only {question!r}. "
            f'Example: mgem see table.jpg "What is on the table?"'
        )
    if os.path.isfile(question):
        raise InputError(f'The question is missing: the last word, {question!r}, is a file. Add "a question" after it.')
    return paths, question


def _settings_of(name: str | None) -> Settings:
    """Return the settings, with the model of the option if there is one."""
    from mgem_agent.cli.factories import go_offline
    from mgem_agent.settings import load_settings

    settings = load_settings(model=name)
    go_offline(settings)
    if ":" in settings.model and not user_path(settings.model).exists():
        raise InputError(
            f"mgem see runs only Mini-Gemini models, and {settings.model!r} is another reasoner. Add --model "
            f"FOLDER_OR_ID, or use: mgem ask -a IMAGE QUESTION"
        )
    return settings


def _find_folder(model: str) -> Path | None:
    """Return the folder of a model, downloaded if it is missing; None for nano, which has its own loader."""
    if model == "nano":
        return None
    from mgem_agent.core_model.checkpoints.cache import fetch_folder

    return fetch_folder(model)


def _resident(settings: Settings) -> ResidentConversation | None:
    """Return the model in a running `mgem serve`; None if none holds it."""
    from mgem_agent.cli.factories import server_with

    server = server_with("reasoner", settings, settings.model, settings.model_options)
    if server is None:
        return None
    from mgem_agent.resident.conversation import ResidentConversation

    with _spinner(f"Asking {settings.model}"):
        return ResidentConversation(server.address)


def _loading_options(dtype: _DType, device: _Device, quantize: _Quantize) -> dict[str, Any]:
    """Return options of `from_pretrained`; without a dtype if none was given."""
    import torch

    from mgem_agent.core_model.quantization import quantization_config

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError("torch finds no CUDA device. Leave out --device, or give --device cpu.")
    options: dict[str, Any] = {} if dtype == "auto" else {"dtype": getattr(torch, dtype)}
    if device != "cpu" and has_gpu:
        options["device_map"] = "auto" if device == "auto" else "cuda"
    if quantize != "none":
        options["quantization_config"] = quantization_config(8 if quantize == "8bit" else 4)
    return options


def _load(folder: Path | None, options: dict[str, Any]) -> Conversation:
    from transformers.utils import logging

    from mgem_agent.core_model import Conversation, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
    from mgem_agent.core_model.dtype import default_dtype

    logging.disable_progress_bar()  # there is a spinner
    if "device_map" in options or folder is not None:
        options = {"dtype": default_dtype("cuda" if "device_map" in options else "cpu"), **options}
    if folder is None:
        from mgem_agent.nano import load_nano

        return Conversation(*load_nano(options=options))
    processor = MiniGeminiProcessor.from_pretrained(folder)
    return Conversation(MiniGeminiForConditionalGeneration.from_pretrained(str(folder), **options), processor)


@contextmanager
def _spinner(message: str) -> Iterator[None]:
    """Show a spinner on stderr, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.markup import escape

    with open_console(stderr=True).status(escape(message)):
        yield
