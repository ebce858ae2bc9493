"""Mini-Gemini as a transformers model: two vision encoders, patch info mining, a projector, and any decoder LLM.

The parts are composed, not subclassed: the LLM is what `AutoModel` builds from `text_config`, dense or mixture of
experts, so that one class serves all families. The head's parts (the soft cap of Gemma 2's logits, the load-balancing
loss of a mixture) are applied here from the same configuration.

Visual tokens replace the positions of `image_token_id` in the embedded prompt. That id may lie outside the vocabulary,
as in the released checkpoints, whose tokenizers have no image token.

Shapes: b prompts; l tokens; i images over all prompts, in order; c channels of the LR encoder; d hidden size of the
LLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, Cache, CLIPVisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from mgem_agent.core_model.cache_name import CACHE_NAME, CACHE_NAMES, rename_cache
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.core_model.low_res_encoder import low_res_features, unused_low_res_modules
from mgem_agent.core_model.mining import PatchInfoMining
from mgem_agent.core_model.offload import keep_resident
from mgem_agent.core_model.projector import build_projector
from mgem_agent.core_model.side_by_side import side_by_side
from mgem_agent.core_model.token_extension import crops_to_raster, global_image, raster_to_crops, split_crops
from mgem_agent.core_model.visual_reader import VisualReader
from mgem_agent.errors import InputError, PromptError

__all__ = ["MiniGeminiModel", "MiniGeminiOutput", "MiniGeminiPreTrainedModel", "build_reader"]

_TORCH_INIT = "_torch_init"
"""Marks the linear layers that use torch's own initialisation."""

_PIXELS_PER_PASS = 4 * 768 * 768
"""Most high-resolution pixels per pass of the vision part; more images take several passes."""


@dataclass
class MiniGeminiOutput(ModelOutput):
    """The outputs of the model.

    Attributes:
        loss: () language modelling loss, plus the load-balancing loss of a mixture of experts, when labels were given.
        logits: (b, l, vocabulary) scores of the next token; only of the last `logits_to_keep` positions if set.
        last_hidden_state: (b, l, d), from the model without a head.
        cache: The key-value cache; called `past_key_values` before transformers 5.24.
        hidden_states: One (b, l, d) for each layer, if requested.
        attentions: One map for each layer, if requested.
        image_hidden_states: The visual tokens that were written into the prompt, (tokens, d) for each image.
        aux_loss: () load-balancing loss of a mixture of experts, if router logits are requested.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    if CACHE_NAME == "cache":
        cache: Cache | None = None
    else:
        past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_hidden_states: list[Tensor] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    aux_loss: Tensor | None = None


class MiniGeminiPreTrainedModel(PreTrainedModel):
    """The common base of the models with and without a head."""

    config_class = MiniGeminiConfig
    config: MiniGeminiConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities: Any = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvNeXtBlock", "PatchInfoMining"]
    _skip_keys_device_placement = list(CACHE_NAMES)
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        if isinstance(module, nn.Linear) and getattr(module, _TORCH_INIT, False):
            # Mining and projector use torch's own initialisation of linear layers, as in the authors' code.
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                bound = module.in_features**-0.5
                init.uniform_(module.bias, -bound, bound)
            return
        super()._init_weights(module)
        if type(module).__name__ == "ConvNeXtBlock" and module.gamma is not None:
            gamma: Any = module.gamma
            init.constant_(gamma, self.config.high_res_vision_config.layer_scale_init_value)


def build_reader(config: MiniGeminiConfig) -> VisualReader | None:
    """Return a new reader of a model; None if it has none.

    Args:
        config: The model's configuration.
    """
    if config.reader is None:
        return None
    num_patches = config.geometry.num_visual_tokens
    return VisualReader(config.reader, num_patches, config.vision_config.hidden_size, config.text_config.hidden_size)


class MiniGeminiModel(MiniGeminiPreTrainedModel):
    """The two encoders, mining, the projector and the language model's trunk, without a head.

    Without high resolution (`high_res_image_size` of None), `high_res_vision_tower` and `mining` are None, and the
    projector gets the low-resolution tokens. Without a `reader_config`, `reader` is None.
    """

    high_res_vision_tower: HighResEncoder | None
    mining: PatchInfoMining | None
    reader: VisualReader | None

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        self.vision_tower = CLIPVisionModel._from_config(config.vision_config)
        vision_dim = config.vision_config.hidden_size
        self.high_res_vision_tower = self.mining = None
        if config.high_res_image_size is not None:
            self.high_res_vision_tower = HighResEncoder(config.high_res_vision_config)
            self.mining = PatchInfoMining(vision_dim, config.high_res_vision_config.candidate_dim)
        self.multi_modal_projector = build_projector(config.projector_type, vision_dim, config.text_config.hidden_size)
        self.reader = build_reader(config)
        for part in filter(None, (self.mining, self.multi_modal_projector)):
            for module in part.modules():
                setattr(module, _TORCH_INIT, True)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()
        self.apply_freezing()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load the trunk alone; see :meth:`MiniGeminiForConditionalGeneration.from_pretrained` for the whole model."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.mining is not None:
            keep_resident(model.mining)
        model.apply_freezing()
        return loaded

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's embedding (vocabulary, d)."""
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding."""
        self.language_model.set_input_embeddings(value)

    def apply_freezing(self) -> None:
        """Set `requires_grad` of the encoders as the configuration says; loading weights resets it."""
        self.vision_tower.requires_grad_(not self.config.freeze_vision_tower)
        if self.high_res_vision_tower is not None:
            self.high_res_vision_tower.requires_grad_(not self.config.freeze_high_res_vision_tower)
        for parameter in unused_low_res_modules(self.vision_tower, self.config.vision_feature_layer):
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> MiniGeminiModel:
        """Switch to training or evaluation; a frozen encoder stays in evaluation, without drop path."""
        super().train(mode)
        if self.config.freeze_vision_tower:
            self.vision_tower.eval()
        if self.high_res_vision_tower is not None and self.config.freeze_high_res_vision_tower:
            self.high_res_vision_tower.eval()
        return self

    def get_image_features(
        self, pixel_values: Tensor, high_res_pixel_values: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode, mine and project images.

        Args:
            pixel_values: (i, 3, h, h) normalised LR images, h = `geometry.low_res_input_size`.
            high_res_pixel_values: (i, 3, H, H) normalised HR images, H = `high_res_image_size`; None for a model
                without high resolution.
            **kwargs: Accepted for transformers (`return_dict`); not used.

        Returns:
            `.pooler_output`: one (tokens, d) tensor for each image, ready to be placed among embedded text; in the HD
            models the tokens of the global image come first, and those of a reader last. `.last_hidden_state`:
            (i, visual tokens, c) before the projector.

        Raises:
            InputError: If the two tensors do not have the configured sizes or not the same number of images.
        """
        self._check(pixel_values, high_res_pixel_values)
        side = self.config.high_res_image_size or self.config.geometry.low_res_input_size
        lows = pixel_values.split(max(1, _PIXELS_PER_PASS // side**2))
        highs = [None] * len(lows) if high_res_pixel_values is None else high_res_pixel_values.split(len(lows[0]))
        tokens = torch.cat([self._visual_tokens(low, high) for low, high in zip(lows, highs, strict=True)])
        features = self.multi_modal_projector(tokens)
        read = None if self.reader is None else self.reader.read(tokens, features)
        # Gemma's embedding multiplies by √d. Its released model was trained with visual tokens multiplied as well.
        scale = getattr(self.get_input_embeddings(), "embed_scale", None)
        if scale is not None:
            features = features * torch.as_tensor(scale).to(features)
        if read is not None:
            words: Tensor = self.get_input_embeddings()(read)
            features = torch.cat([features, words.detach().to(features)], dim=1)
        per_image: Any = list(features)  # transformers annotates a tensor, but its generation expects a list
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=per_image)

    def _check(self, pixel_values: Tensor, high_res_pixel_values: Tensor | None) -> None:
        low, high = self.config.geometry.low_res_input_size, self.config.high_res_image_size
        if high_res_pixel_values is None and high is not None:
            raise InputError("Images need both pixel_values and high_res_pixel_values; MiniGeminiProcessor makes both.")
        count = pixel_values.shape[0]
        expected = ((count, 3, low, low), None if high is None else (count, 3, high, high))
        got = (
            tuple(pixel_values.shape),
            None if high_res_pixel_values is None else tuple(high_res_pixel_values.shape),
        )
        if got != expected:
            raise InputError(
                f"pixel_values and high_res_pixel_values must be {expected[0]} and {expected[1]}, got {got[0]} and "
                f"{got[1]}. Make them with this model's own MiniGeminiProcessor."
            )

    def _visual_tokens(self, pixel_values: Tensor, high_res_pixel_values: Tensor | None) -> Tensor:
        """Encode and mine some images: (i, tokens, c), global image first."""
        grid, side = self.config.image_grid, self.config.geometry.tokens_per_side
        views = split_crops(pixel_values, grid)
        num_crops = views.shape[0]
        if self.config.image_global:
            views = torch.cat([views, global_image(pixel_values, grid)])
        tokens, candidates = side_by_side(
            lambda: self._low_res_tokens(views), lambda: self._candidates(high_res_pixel_values), views.device
        )
        crops, whole = crops_to_raster(tokens[:num_crops], grid, side), tokens[num_crops:]
        if self.mining is not None and candidates:
            crops = self.mining(crops, candidates)
            whole = self.mining(whole, candidates, scale=1 / grid) if self.config.image_global else whole
        crops = raster_to_crops(crops, grid, side)
        if not self.config.image_global:
            return crops
        return torch.cat([whole, crops], dim=1)

    def _low_res_tokens(self, views: Tensor) -> Tensor:
        """Return the LR encoder's tokens (v, n, c) of views (v, 3, h, h)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_vision_tower):
            return low_res_features(self.vision_tower, views, self.config.vision_feature_layer)

    def _candidates(self, high_res_pixel_values: Tensor | None) -> list[Tensor]:
        """Return the HR encoder's stage maps, finest first; none in a model without one."""
        if self.high_res_vision_tower is None:
            return []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_high_res_vision_tower):
            maps: list[Tensor] = self.high_res_vision_tower(high_res_pixel_values)
        return maps

    def embed(self, input_ids: Tensor, image_features: list[Tensor] | None = None) -> Tensor:
        """Embed a prompt and insert visual tokens at its image tokens.

        Args:
            input_ids: (b, l).
            image_features: (tokens, d) for each image, in order.

        Returns:
            (b, l, d) in the dtype of the embedding.

        Raises:
            PromptError: If the numbers of visual tokens and image tokens differ.
        """
        places = input_ids == self.config.image_token_id
        embedded: Tensor = self.get_input_embeddings()(input_ids.masked_fill(places, 0))
        if image_features is None:
            if not torch.compiler.is_compiling() and places.any():
                raise PromptError(
                    f"The prompt has {int(places.sum())} image tokens and no images. Pass pixel_values and "
                    f"high_res_pixel_values, or remove the image tokens."
                )
            return embedded
        rows = torch.cat(list(image_features)).to(embedded.device, embedded.dtype)
        if not torch.compiler.is_compiling() and int(places.sum()) != rows.shape[0]:
            raise PromptError(
                f"The prompt has {int(places.sum())} image tokens, but the {len(image_features)} image(s) have "
                f"{rows.shape[0]} visual tokens. Each image needs {self.config.geometry.num_image_tokens} of the id "
                f"{self.config.image_token_id}; MiniGeminiProcessor puts them there."
            )
        return embedded.masked_scatter(places.unsqueeze(-1).to(embedded.device), rows)

    def _embedded(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, image_features: list[Tensor] | None
    ) -> Tensor:
        if input_ids is not None and inputs_embeds is None:
            return self.embed(input_ids, image_features)
        if inputs_embeds is None or input_ids is not None:
            raise InputError("Pass exactly one of input_ids and inputs_embeds.")
        if image_features is not None:
            raise InputError(
                "Images cannot be placed in inputs_embeds. Pass input_ids, or embed both with model.embed."
            )
        return inputs_embeds

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        high_res_pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> MiniGeminiOutput | tuple[Any, ...]:
        """Run the language model over prompts with images; the arguments are those of the model with a head."""
        image_features: Any = None
        if mm_encoder_outputs and mm_encoder_outputs.get("image") is not None:
            image_features = mm_encoder_outputs["image"].pooler_output
        if pixel_values is not None:
            if image_features is not None:
                raise InputError("Pass the images as pixels or as mm_encoder_outputs, not both.")
            image_features = self.get_image_features(pixel_values, high_res_pixel_values).pooler_output
        embedded = self._embedded(input_ids, inputs_embeds, image_features)
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            # Positions of left-padded rows start at their first real token, as in generate.
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -embedded.shape[1] :]
        outputs = self.language_model(
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **rename_cache({"cache": cache, "past_key_values": past_key_values}),
            **kwargs,
        )
        result = MiniGeminiOutput(
            last_hidden_state=outputs.last_hidden_state,
            **{CACHE_NAME: outputs.get(CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
            router_logits=getattr(outputs, "router_logits", None),
        )
        return result.to_tuple() if return_dict is False else result


AutoModel.register(MiniGeminiConfig, MiniGeminiModel)
