"""Programs that serve OpenAI's images API, and how each of them departs from it.

What is written here was read from their documentation and source; the guide on remote generators lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mgem_agent.errors import InputError
from mgem_agent.tools.image_request import ImageTask
from mgem_agent.tools.servers.openai_dialect import SD_CPP_HONOURS

__all__ = ["SERVER_KINDS", "ImagesServerKind", "find_server_kind"]

_SAME_NAMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("guidance_scale", "negative_prompt", "num_inference_steps", "seed")}
)


@dataclass(frozen=True, slots=True)
class ImagesServerKind:
    """One program.

    Attributes:
        honours: Its fields beyond OpenAI's, by the fields of an image request.
        options: Names that an image request's options may have; None for OpenAI's. The programs that ignore unknown
            fields silently have a list, so that no option is lost without a word.
        unsupported: Tasks that it accepts and does not do, each with the reason.
        max_n: Most pictures of one call.
        has_consecutive_seeds: Whether the pictures of one call have the seeds that follow the first, so that each can
            be drawn again alone.
    """

    honours: Mapping[str, str]
    options: frozenset[str] | None = None
    unsupported: Mapping[ImageTask, str] = field(default_factory=dict)
    max_n: int = 10
    has_consecutive_seeds: bool = False


SERVER_KINDS: Mapping[str, ImagesServerKind] = MappingProxyType(
    {
        "sd.cpp": ImagesServerKind(SD_CPP_HONOURS),
        "sglang": ImagesServerKind(
            _SAME_NAMES,
            frozenset(
                {
                    "background", "diffusers_kwargs", "enable_teacache", "flow_shift", "generator_device",
                    "max_sequence_length", "output_compression", "output_format", "output_quality", "quality",
                    "true_cfg_scale", "user",
                }
            ),
            {"inpaint": "SGLang accepts a mask and does not read it; the whole picture would be redrawn."},
            has_consecutive_seeds=True,
        ),
        "vllm-omni": ImagesServerKind(
            _SAME_NAMES,
            frozenset(
                {
                    "background", "extra_params", "flow_shift", "generator_device", "layers", "lora",
                    "output_compression", "output_format", "true_cfg_scale", "user",
                }
            ),
            {"inpaint": "vLLM-Omni does not read OpenAI's field mask; the whole picture would be redrawn."},
        ),
    }
)  # fmt: skip
"""The programs, by the name that the option `honours` takes."""


def find_server_kind(name: str) -> ImagesServerKind:
    """Return a program by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in SERVER_KINDS:
        raise InputError(
            f"honours is {name!r}. Allowed: {', '.join(map(repr, SERVER_KINDS))}, or a table of field names."
        )
    return SERVER_KINDS[name]
