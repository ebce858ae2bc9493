"""Configuration of the model: two vision encoders, mining, a projector and a language model of any family."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import transformers
from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from mgem_agent.core_model.checkpoints.official import OFFICIAL_MODEL_TYPES, is_official, translate_config
from mgem_agent.core_model.geometry import VisualGeometry
from mgem_agent.core_model.visual_reader import VisualReaderConfig
from mgem_agent.errors import InputError

__all__ = ["HighResVisionConfig", "MiniGeminiConfig", "head_channels"]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "text_config": {"model_type": "llama"},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
    "high_res_vision_config": {"model_type": "mini_gemini_high_res_vision"},
}
"""The parts of a released MGM-7B."""


@strict
class HighResVisionConfig(PreTrainedConfig):
    r"""Configuration of the high-resolution encoder, a ConvNeXt as open_clip builds it.

    The defaults are open_clip's `convnext_large_d_320`, the HR encoder of every released model.

    Attributes:
        hidden_sizes: Channels of the stages, at strides 4, 8, 16 and 32.
        depths: Blocks of the stages.
        layer_norm_eps: Epsilon of every LayerNorm; 1e-5 in `convnext_xxlarge`.
        layer_scale_init_value: Initial value of the blocks' layer scale.
        drop_path_rate: Stochastic depth of the last block when the encoder is trained; never applied when it is frozen.
        num_channels: Channels of the image.
        image_size: Side of the images it was pre-trained on, in pixels; for information.
    """

    model_type = "mini_gemini_high_res_vision"
    base_config_key = "high_res_vision_config"

    hidden_sizes: list[int] | tuple[int, ...] = (192, 384, 768, 1536)
    depths: list[int] | tuple[int, ...] = (3, 3, 27, 3)
    layer_norm_eps: float = 1e-6
    layer_scale_init_value: float = 1e-6
    drop_path_rate: float = 0.0
    num_channels: int = 3
    image_size: int = 320
    initializer_range: float = 0.02

    @property
    def candidate_dim(self) -> int:
        """Channels of the concatenated stage maps: the width of mining's keys and values (`mm_hidden_size_aux`)."""
        return sum(self.hidden_sizes)


@strict
class MiniGeminiConfig(PreTrainedConfig):
    r"""Configuration of a [`MiniGeminiForConditionalGeneration`].

    The defaults are those of the released MGM-7B: CLIP ViT-L/14 at 336 px, ConvNeXt-L at 768 px, Vicuna-7B.

    Attributes:
        text_config: The language model's own configuration, of any decoder family (`LlamaConfig`, `GemmaConfig`, ...).
        vision_config: `CLIPVisionConfig` of the low-resolution encoder.
        high_res_vision_config: [`HighResVisionConfig`] of the high-resolution encoder.
        image_token_id: Id of one visual token in `input_ids`. It may lie outside the vocabulary, because it is never
            embedded.
        high_res_image_size: Side of `high_res_pixel_values`, in pixels. None for a model without high resolution, as
            the paper's baselines: it has no high-resolution encoder and no mining.
        image_grid: Crops per side of the LR image; 2 in the HD models.
        image_global: Whether the full picture is seen in addition to its crops; true in the HD models.
        vision_feature_layer: The LR encoder's hidden state that becomes the visual tokens; -2 is the second to last.
        projector_type: `mlpNx_gelu` (N linear layers with GELU between), `linear` or `identity`.
        reader_config: Fields of a [`VisualReaderConfig`], for a model that reads its visual tokens as words; None for
            the models of the paper. It needs an `image_grid` of 1, without a global image.
        image_aspect_ratio: `pad` puts the picture on a square of the mean colour; `square` scales the short edge and
            crops the centre.
        prompt_template: Name of the dialogue format, a file in `core_model/prompts/formats`.
        freeze_vision_tower: Whether the low-resolution encoder is frozen in training.
        freeze_high_res_vision_tower: Whether the high-resolution encoder is frozen in training.
        tie_word_embeddings: Whether the LLM's head shares its embedding; by default as the `text_config` says.
    """

    model_type = "mini_gemini"
    attribute_map = {"image_token_index": "image_token_id"}
    sub_configs: ClassVar[Any] = {  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        "text_config": AutoConfig,
        "vision_config": AutoConfig,
        "high_res_vision_config": HighResVisionConfig,
    }

    # Given as a dict, a configuration or None; a configuration once this object is made.
    text_config: Any = None
    vision_config: Any = None
    high_res_vision_config: Any = None
    image_token_id: int = 32000
    high_res_image_size: int | None = 768
    image_grid: int = 1
    image_global: bool = False
    vision_feature_layer: int = -2
    projector_type: str = "mlp2x_gelu"
    reader_config: dict[str, Any] | None = None
    image_aspect_ratio: Literal["pad", "square"] = "pad"
    prompt_template: str = "vicuna_v1"
    freeze_vision_tower: bool = True
    freeze_high_res_vision_tower: bool = True
    tie_word_embeddings: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        importlib.import_module("mgem_agent.core_model.auto")  # a configuration's owner may ask for its model
        for name, default in _DEFAULTS.items():
            setattr(self, name, part_config(name, getattr(self, name), default))
        super().__post_init__(**kwargs)
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        if self.reader is not None and (self.image_grid != 1 or self.image_global):
            raise InputError(
                f"A model with a reader sees a picture as one crop, got image_grid={self.image_grid} and "
                f"image_global={self.image_global}. Set reader_config to null, or change these two to 1 and false."
            )
        self.geometry  # noqa: B018  raises if the sizes do not fit together

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a `config.json`, and translate one in the authors' layout."""
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return (translate_config(config_dict) if is_official(config_dict) else config_dict), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a configuration from a dictionary, ours or the authors'; `AutoConfig` calls this."""
        return super().from_dict(translate_config(config_dict) if is_official(config_dict) else config_dict, **kwargs)

    @property
    def reader(self) -> VisualReaderConfig | None:
        """Sizes of the reader; None without one.

        Raises:
            InputError: If they cannot be used.
        """
        return None if self.reader_config is None else VisualReaderConfig.of(self.reader_config)

    @property
    def geometry(self) -> VisualGeometry:
        """Token counts and window sizes of this configuration.

        Raises:
            GeometryError: If the sizes do not fit together.
        """
        reader = self.reader
        return VisualGeometry(
            low_res_size=self.vision_config.image_size,
            patch_size=self.vision_config.patch_size,
            high_res_size=self.high_res_image_size,
            image_grid=self.image_grid,
            image_global=self.image_global,
            num_reader_tokens=0 if reader is None else reader.num_tokens,
        )


def head_channels(config: Any) -> int:
    """Return the channels of an attention head.

    Args:
        config: The configuration of a language model.
    """
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def part_config(name: str, given: Any, default: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the configuration of a part; transformers makes it from a dictionary only from release 5.20 on.

    Args:
        name: The field, for the error.
        given: A configuration, a dictionary or None.
        default: The dictionary for None; its `model_type` is that of a dictionary without one.

    Raises:
        InputError: If it is neither, or its `model_type` is unknown.
    """
    if isinstance(given, PreTrainedConfig):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"{name} must be a configuration, a dictionary or None, got {type(given).__name__}.")
    values = default if given is None else {"model_type": default["model_type"], **given}
    model_type = values["model_type"]
    if model_type not in CONFIG_MAPPING:
        raise InputError(
            f"{name} has the model_type {model_type!r}, which transformers {transformers.__version__} does not have. "
            "Name one of its language or vision models, or install a newer transformers."
        )
    made: PreTrainedConfig = CONFIG_MAPPING[model_type](**values)
    return made


AutoConfig.register(MiniGeminiConfig.model_type, MiniGeminiConfig)
AutoConfig.register(HighResVisionConfig.model_type, HighResVisionConfig)
for _name in OFFICIAL_MODEL_TYPES:  # the names under which the authors published their configurations
    CONFIG_MAPPING.register(_name, MiniGeminiConfig, exist_ok=True)
