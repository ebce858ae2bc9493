"""The request fields that a model on a server accepts, as known from its name and its answers.

Servers with OpenAI's images API accept different fields, and a deployment's name does not say which model it is. If a
server refuses a field as unknown, which is free, the field is left out from then on. What was learned is kept until the
program ends.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["SD_CPP_HONOURS", "dialect_of", "with_extra_args"]

GPT_IMAGE = re.compile(r"(chatgpt|gpt)-image")
NEEDED = frozenset({"model", "prompt", "image", "image[]", "mask"})
UNKNOWN = re.compile(
    r"unknown|unrecogni[sz]ed|unsupported|not support|n't support|extra (?:input|field)s?|extra_forbidden|unexpected"
    r"|not permitted|not allowed|additional propert|invalid (?:parameter|argument|field)|no such (?:parameter|field)",
    re.IGNORECASE,
)
OF_ITS_VALUE = re.compile(r"invalid[_ ]value|supported values|must be one of|expected one of", re.IGNORECASE)
SD_CPP = "stable-diffusion.cpp"
EXTRA_ARGS = "sd_cpp_extra_args"
SD_CPP_HONOURS: Mapping[str, str] = {
    "seed": f"{EXTRA_ARGS}.seed",
    "negative_prompt": f"{EXTRA_ARGS}.negative_prompt",
    "num_inference_steps": f"{EXTRA_ARGS}.sample_params.sample_steps",
    "guidance_scale": f"{EXTRA_ARGS}.sample_params.guidance.txt_cfg",
}
"""The additional fields of stable-diffusion.cpp's server, which reads them from a tag in the prompt."""


class OpenAIDialect:
    """The known properties of a model on a server.

    Args:
        model: Name of the model; the part before its last `/` is a provider or a route.
    """

    def __init__(self, model: str) -> None:
        self.bare_model = model.rpartition("/")[2]
        self._refused: set[str] = set()
        self._is_sd_cpp = False

    @property
    def is_gpt_image(self) -> bool:
        """Whether its name is that of one of OpenAI's image models."""
        return GPT_IMAGE.match(self.bare_model) is not None

    @property
    def honours(self) -> Mapping[str, str]:
        """Supported fields beyond OpenAI's, as far as known."""
        return SD_CPP_HONOURS if self._is_sd_cpp else {}

    def takes(self, field: str) -> bool:
        """Whether a field may be sent."""
        return field not in self._refused

    def learn_from_picture(self, parameters: Mapping[str, str]) -> None:
        """Recognise the server's program from the metadata of a picture."""
        self._is_sd_cpp = self._is_sd_cpp or SD_CPP in parameters.get("Version", "")

    def learn_from_refusal(self, status: int, data: Any, sent: Collection[str]) -> str | None:
        """Record a field that the server refused as unknown.

        Args:
            status: HTTP status of the answer.
            data: Its body.
            sent: Fields that were sent.

        Returns:
            The field, or None if the refusal is of another kind.
        """
        if status not in (400, 422):
            return None
        text = data if isinstance(data, str) else json.dumps(data)
        if not UNKNOWN.search(text) or OF_ITS_VALUE.search(text):
            return None
        named = [field for field in sent if field not in NEEDED and re.search(rf"\b{re.escape(field)}\b", text)]
        if not named:
            return None
        field = max(named, key=len)  # `output_format` also contains `format`
        self._refused.add(field)
        return field


def with_extra_args(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Move the fields that stable-diffusion.cpp reads from the prompt into it.

    Args:
        fields: Fields by name; those for the prompt begin with `sd_cpp_extra_args.`, with a `.` at each level.
    """
    plain: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in fields.items():
        first, *rest = name.split(".")
        if first != EXTRA_ARGS or not rest:
            plain[name] = value
            continue
        place = extra
        for part in rest[:-1]:
            place = place.setdefault(part, {})
        place[rest[-1]] = value
    if extra:
        plain["prompt"] = f"{plain['prompt']} <{EXTRA_ARGS}>{json.dumps(extra)}</{EXTRA_ARGS}>"
    return plain


_known: dict[tuple[str, str], OpenAIDialect] = {}
_lock = threading.Lock()


def dialect_of(address: str, model: str) -> OpenAIDialect:
    """Return the dialect of a model on a server; all generators of this process share it."""
    with _lock:
        return _known.setdefault((address, model), OpenAIDialect(model))
