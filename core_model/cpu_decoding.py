"""Fast single-token decoding on a CPU for language models of the LLaMA family.

A token's time is that of reading every weight once and, in a small model, of the calls between the products. So:

- **Fewer bytes.** The weights process the prompt as they are. For single tokens they are packed without loss
  (`packed_weights`): those of a GGUF file of type Q4_1 take 5 bits each, those of a float16 file 16.
- **No calls.** All layers and the head are one compiled function for each token (`cpu_kernels`).

The numbers are multiplied and added in float32. So the tokens are those of the weights in float32, except for ties.

Loading and compiling take seconds, so they happen in another thread, and only once a process has decoded some tokens:
short answers pay nothing. Until then, the tokens are transformers' own.

`generate`, streaming and the key-value cache are those of transformers. Only the forward pass of the trunk and the head
is replaced, and only for one token of one prompt.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from mgem_agent.core_model.cache_name import CACHE_NAME
from mgem_agent.core_model.cache_room import rooms
from mgem_agent.core_model.configuration import head_channels
from mgem_agent.core_model.packed_weights import ROWS, Adapters, Format, PackedWeights, can_pack, pack
from mgem_agent.errors import CheckpointError

if TYPE_CHECKING:
    from mgem_agent.core_model.conditional_generation import MiniGeminiForConditionalGeneration

__all__ = ["TOKENS_BEFORE_PACKING", "CpuDecoding", "TokenRunner", "enable_cpu_decoding", "pack_for_decoding"]

TOKENS_BEFORE_PACKING = 24
"""Tokens that a process decodes before it packs weights; short commands never need them."""

MOST_THREADS = 8
"""Threads that share a token; a product of a small model has too few rows for more."""

_HANDLED = ("attention_mask", "inputs_embeds", CACHE_NAME, "position_ids", "use_cache", "return_dict")

_log = logging.getLogger(__name__)


def enable_cpu_decoding(
    model: MiniGeminiForConditionalGeneration, packed: str | os.PathLike[str] | None = None
) -> CpuDecoding | None:
    """Turn on fast decoding for a model.

    Args:
        model: The model, loaded in float32 on the CPU. Prompt processing and saving do not change.
        packed: A file with the packed weights (`PackedWeights.save`); by default the model's are packed when needed.

    Returns:
        The object that can turn it off again; None if the model is not supported and was left unchanged.
    """
    trunk: Any = model.model.language_model
    head: Any = model.get_output_embeddings()
    if not _is_fitting(trunk, head):
        return None

    def weights() -> PackedWeights:
        if packed is None:
            return pack(trunk, head.weight.detach())
        return PackedWeights.load(packed)

    return CpuDecoding(trunk, head, weights)


def pack_for_decoding(model: Any, path: Path, adapters: Adapters | None = None) -> None:
    """Write the packed weights of a language model to a file, and compile the code that uses them.

    Nothing is written if the model is not supported.

    Args:
        model: A causal language model of transformers, in float32 on the CPU.
        path: The file.
        adapters: Low-rank adapters that are not merged into the weights.
    """
    trunk, head = model.model, model.get_output_embeddings()
    if _is_fitting(trunk, head):
        packed = pack(trunk, head.weight.detach(), adapters)
        packed.save(path)
        TokenRunner(trunk, packed, len(head.weight)).compile()


class TokenRunner:
    """The compiled pass of one token, with the threads that share its work.

    Args:
        trunk: A LLaMA without a head.
        packed: Its matrices.
        vocabulary: Number of tokens that the head scores.

    Attributes:
        packed: The matrices.
    """

    def __init__(self, trunk: LlamaModel, packed: PackedWeights, vocabulary: int) -> None:
        from mgem_agent.core_model import cpu_kernels

        config: Any = trunk.config
        self._run: Callable[..., None] = cpu_kernels.run_token
        self._make_token: Callable[..., Any] = cpu_kernels.Token
        self._heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        self._channels = head_channels(config)
        self._eps: float = config.rms_norm_eps
        self._angles, self._norm = trunk.rotary_emb, trunk.norm.weight.detach()
        self.packed, self._vocabulary = packed, vocabulary
        self._table, self._norms = packed.table.numpy(), packed.norms.numpy()
        self._control_length = cpu_kernels.control_length(config.num_hidden_layers)
        rows = [int(blocks) * ROWS for blocks in self._table[:, 0, 1]]
        self._lengths = {
            **dict.fromkeys(("given", "sums", "gated"), max(config.hidden_size, config.intermediate_size)),
            **dict.fromkeys(("seen", "delta"), max(rows[:-1])),
            "attended": self._heads * self._channels,
            "nothing": 0,
            "narrow": max(1, int(self._table[:, 1, 1].max())) * ROWS,
            "logits": rows[-1],
        }
        self._own = threading.local()
        self._helpers = ThreadPoolExecutor(MOST_THREADS - 1, "mgem-decoding")  # it starts only as many as it needs

    def __call__(self, embedded: Tensor, start: Tensor | int, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """Return the output (1, d) at a token (1, d) and the scores (1, vocabulary), and add the token to the cache.

        Args:
            embedded: The token's embedding.
            start: Its position.
            cache: Keys and values of the tokens before.
        """
        past, places = cache.get_seq_length(), rooms(cache)
        position = torch.zeros(1, 1, dtype=torch.long) + start
        cosines, sines = (angle.view(-1).numpy() for angle in self._angles(self._norm, position))
        hidden = embedded[0].numpy().copy()
        logits = self._share(past, np.array([place.address for place in places]), cosines, sines, hidden)
        for place, layer in zip(places, cache.layers, strict=True):
            place.show(layer, past + 1)
        return torch.from_numpy(hidden)[None], torch.from_numpy(logits)[None]

    def compile(self) -> None:
        """Compile, or read the compiled code from disk, by running a token of zeros."""
        room = np.zeros((2, self._key_heads, 1, self._channels), np.float32)
        addresses = np.array([[room[0].ctypes.data, room[1].ctypes.data, 1]] * (len(self._norms) // 2))
        angles = np.zeros(self._channels, np.float32)
        self._share(0, addresses, angles, angles, np.zeros(self._norms.shape[1], np.float32))

    def _share(self, past: int, addresses: Any, cosines: Any, sines: Any, hidden: Any) -> Any:
        """Run the token on all threads; replace its embedding by the output, and return the scores."""
        memory, threads = self._memory(int(addresses[:, 2].max())), min(torch.get_num_threads(), MOST_THREADS)
        token = self._make_token(
            control=np.zeros(self._control_length, np.int64),
            weights=self.packed.data.data_ptr(),
            table=self._table,
            norms=self._norms,
            rooms=addresses,
            sizes=np.array([self._heads, self._key_heads, self._channels, past, threads]),
            eps=self._eps,
            cosines=cosines,
            sines=sines,
            hidden=hidden,
            **memory,
        )
        for _ in range(threads - 1):
            self._helpers.submit(self._run, False, token)
        self._run(True, token)
        return memory["logits"][: self._vocabulary].copy()

    def _memory(self, capacity: int) -> dict[str, Any]:
        """Return this thread's working memory, with room for the attention to some tokens."""
        found: dict[str, Any] | None = getattr(self._own, "memory", None)
        if found is None:
            found = {name: np.zeros(size, np.float32) for name, size in self._lengths.items()}
            self._own.memory = found
        if "scores" not in found or found["scores"].shape[1] < capacity:
            found["scores"] = np.zeros((self._heads, capacity), np.float32)
        return found


class CpuDecoding:
    """Fast decoding of one model, which can be turned on and off.

    Args:
        trunk: A LLaMA without a head.
        head: Its head.
        weights: Returns the packed weights; called once, when they are needed.

    Attributes:
        preparation: The thread that packs and compiles, once it was started.
    """

    def __init__(self, trunk: LlamaModel, head: nn.Linear, weights: Callable[[], PackedWeights]) -> None:
        self._trunk, self._head, self._weights = trunk, head, weights
        self._runner: TokenRunner | None = None
        self._num_tokens = 0
        self.preparation: threading.Thread | None = None
        self._lock = threading.Lock()
        self._last = threading.local()
        self.install()

    @property
    def is_ready(self) -> bool:
        """Whether the weights are packed, so that the next token is fast."""
        return self._runner is not None

    def formats(self) -> list[Format]:
        """Return how the weights of each product are packed; none before they are."""
        return [] if self._runner is None else self._runner.packed.formats()

    def install(self) -> None:
        """Turn fast decoding on."""
        self._trunk.__dict__["forward"] = self._through_trunk
        self._head.__dict__["forward"] = self._through_head

    def remove(self) -> None:
        """Turn fast decoding off."""
        for module in (self._trunk, self._head):
            module.__dict__.pop("forward", None)

    def prepare(self) -> None:
        """Pack the weights and compile now, instead of after some tokens.

        Raises:
            CheckpointError: If the file of the packed weights cannot be read, or belongs to another model.
        """
        with self._lock:
            if self._runner is None:
                packed = self._weights()
                expected = (4 * len(self._trunk.layers) + 1, len(self._trunk.norm.weight))
                if (len(packed.table), packed.norms.shape[1]) != expected:
                    raise CheckpointError("The packed weights belong to another language model. Delete their file.")
                runner = TokenRunner(self._trunk, packed, len(self._head.weight))
                runner.compile()
                self._runner = runner

    def _prepare_beside(self) -> None:
        try:
            self.prepare()
        except Exception:
            _log.warning("Fast decoding is not available; answers are the same, but slower.", exc_info=True)

    def _count_token(self) -> None:
        self._num_tokens += 1
        if self._num_tokens > TOKENS_BEFORE_PACKING and self.preparation is None:
            self.preparation = threading.Thread(target=self._prepare_beside, name="mgem-packing")
            self.preparation.start()

    def _through_trunk(self, *args: Any, **kwargs: Any) -> Any:
        self._last.row = None
        if not args and _is_one_token(kwargs):
            runner = self._runner
            if runner is not None:
                cache: Any = kwargs[CACHE_NAME]
                position_ids = kwargs.get("position_ids")
                start = cache.get_seq_length() if position_ids is None else position_ids[:, -1:]
                hidden, scores = runner(kwargs["inputs_embeds"][0], start, cache)
                self._last.row = (hidden, scores)
                return BaseModelOutputWithPast(last_hidden_state=hidden[None], **{CACHE_NAME: cache})
            self._count_token()
        return type(self._trunk).forward(self._trunk, *args, **kwargs)

    def _through_head(self, input: Tensor) -> Tensor:
        row = getattr(self._last, "row", None)
        if row is not None and input.shape[:-1].numel() == 1 and input.data_ptr() == row[0].data_ptr():
            scores: Tensor = row[1]
            return scores.view(*input.shape[:-1], -1)
        return F.linear(input, self._head.weight)


def _is_fitting(trunk: Any, head: Any) -> bool:
    if importlib.util.find_spec("numba") is None:
        return False
    if type(trunk) is not LlamaModel or type(head) is not nn.Linear or head.bias is not None:
        return False
    if trunk.config.hidden_act != "silu" or hasattr(trunk, "_hf_hook") or hasattr(head, "_hf_hook"):
        return False
    linear = [module for module in trunk.modules() if isinstance(module, nn.Linear)]
    plain = all(type(module) is nn.Linear and module.bias is None for module in linear)
    return (
        plain
        and can_pack(trunk)
        and all(
            type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu"
            for weight in (*trunk.parameters(), head.weight)
        )
    )


def _is_one_token(kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call of the trunk is one token of one prompt with a cache, and nothing else."""
    embedded, cache, mask = (kwargs.get(name) for name in ("inputs_embeds", CACHE_NAME, "attention_mask"))
    if embedded is None or embedded.shape[:2] != (1, 1) or torch.is_grad_enabled():
        return False
    if type(cache) is not DynamicCache or not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    if any(value for name, value in kwargs.items() if name not in _HANDLED):
        return False  # hidden states, attentions or another mask: left to transformers
    return cache.get_seq_length() > 0 and (mask is None or (mask.dim() == 2 and bool(mask.all())))
