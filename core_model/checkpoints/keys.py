"""The authors' names of weights and this library's.

One table of prefixes serves both directions: transformers' loader gets it as anchored patterns; the streaming
conversion and the inspection of a folder use it directly. None of our names begins with a prefix of theirs, so renaming
is always safe. The language model's own names are kept. The exception is Mixtral: published files hold one tensor per
expert, which transformers fuses on loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["is_harmless_leftover", "key_mapping", "split_experts", "to_official_key", "to_our_key"]

_PREFIXES: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.vision_tower_aux.vision_stem.", "model.high_res_vision_tower.stem."),
    ("model.vision_tower_aux.vision_stages.", "model.high_res_vision_tower.stages."),
    ("model.vlm_uni_query_projector.0.", "model.mining.query_norm."),
    ("model.vlm_uni_query_projector.1.", "model.mining.query_proj."),
    ("model.vlm_uni_aux_projector.0.", "model.mining.key_norm."),
    ("model.vlm_uni_aux_projector.1.", "model.mining.key_proj."),
    ("model.vlm_uni_val_projector.0.", "model.mining.value_norm."),
    ("model.vlm_uni_val_projector.1.", "model.mining.value_proj."),
    ("model.mm_projector.", "model.multi_modal_projector."),
    ("model.embed_tokens.", "model.language_model.embed_tokens."),
    ("model.layers.", "model.language_model.layers."),
    ("model.norm.", "model.language_model.norm."),
)

# Buffers that older versions of transformers saved; they are now computed.
_HARMLESS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|embeddings\.position_ids)")

_FUSED = re.compile(r"(?P<layer>.*\.layers\.\d+)\.mlp\.(?P<part>experts\.gate_up_proj|experts\.down_proj|gate\.weight)")


def key_mapping() -> dict[str, str]:
    """Patterns of the authors' names and their replacements, as `from_pretrained(key_mapping=...)` takes them."""
    return {"^" + re.escape(theirs): ours for theirs, ours in _PREFIXES}


def to_our_key(key: str) -> str:
    """Rename a weight from the authors' name to ours; return any other name unchanged.

    Examples:
        >>> to_our_key("model.vlm_uni_aux_projector.1.weight")
        'model.mining.key_proj.weight'
    """
    for theirs, ours in _PREFIXES:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def to_official_key(key: str) -> str:
    """Rename a weight from our name to the authors'; return any other name unchanged."""
    for theirs, ours in _PREFIXES:
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def is_harmless_leftover(key: str) -> bool:
    """Whether an unexpected key is allowed: a buffer in old files that is now computed."""
    return _HARMLESS.fullmatch(key) is not None


def split_experts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Turn the shapes of fused experts into those of published files, one tensor per expert.

    Mixtral's `mlp.experts.gate_up_proj` (e, 2i, d) is `block_sparse_moe.experts.N.w1` and `.w3` (i, d) in a file, and
    `mlp.experts.down_proj` (e, d, i) is `.w2` (d, i); e experts, i intermediate size, d hidden size.

    Args:
        shapes: Shape of each tensor of the model; tensors other than experts are kept.
    """
    split: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        match = _FUSED.fullmatch(key)
        split |= {key: shape} if match is None else dict(_expert_shapes(match["layer"], match["part"], shape))
    return split


def _expert_shapes(layer: str, part: str, shape: tuple[int, ...]) -> Iterable[tuple[str, tuple[int, ...]]]:
    block = f"{layer}.block_sparse_moe"
    if part == "gate.weight":
        yield f"{block}.gate.weight", shape
        return
    experts, rows, columns = shape
    for expert in range(experts):
        if part == "experts.gate_up_proj":
            yield f"{block}.experts.{expert}.w1.weight", (rows // 2, columns)
            yield f"{block}.experts.{expert}.w3.weight", (rows // 2, columns)
        else:
            yield f"{block}.experts.{expert}.w2.weight", (rows, columns)
