"""Mini-Gemini with a language modelling head, for loading, training and generation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    Cache,
    CLIPVisionModel,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.candidate_generator import CandidateGenerator
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mgem_agent.core_model.assembly import assemble
from mgem_agent.core_model.cache_name import rename_cache
from mgem_agent.core_model.checkpoints.loading import load_pretrained
from mgem_agent.core_model.configuration import MiniGeminiConfig
from mgem_agent.core_model.context import check_context
from mgem_agent.core_model.forced_answer import ForcedAnswer
from mgem_agent.core_model.high_res_encoder import HighResEncoder
from mgem_agent.core_model.in_vocabulary import (
    ImageTokenMap,
    InVocabularyCandidates,
    InVocabularyProcessors,
    NewTokensProcessor,
    check_options,
    without_images,
)
from mgem_agent.core_model.modeling import MiniGeminiModel, MiniGeminiOutput, MiniGeminiPreTrainedModel
from mgem_agent.core_model.offload import keep_resident
from mgem_agent.deferred_imports import deferred_imports

__all__ = ["MiniGeminiForConditionalGeneration"]


class MiniGeminiForConditionalGeneration(MiniGeminiPreTrainedModel, GenerationMixin):
    """A vision-language model of any LLM family, with the usual `from_pretrained`, `generate` and `forward`.

    Examples:
        >>> config = MiniGeminiConfig(
        ...     text_config=dict(model_type="llama", hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        ...                      num_attention_heads=2, num_key_value_heads=2, vocab_size=100),
        ...     vision_config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        ...                        image_size=28, patch_size=14),
        ...     high_res_vision_config=dict(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1]),
        ...     high_res_image_size=64, image_grid=2, image_global=True, image_token_id=100)
        >>> model = MiniGeminiForConditionalGeneration(config).eval()
        >>> images = model.get_image_features(torch.randn(1, 3, 56, 56), torch.randn(1, 3, 64, 64))
        >>> images.pooler_output[0].shape
        torch.Size([20, 32])
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        self.model = MiniGeminiModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()
        self.model.apply_freezing()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a folder or hub id, in this library's layout or in that of the authors' checkpoints.

        Args:
            pretrained_model_name_or_path: `YanweiLi/MGM-7B`, ..., or a folder in either layout.
            *model_args: As in `transformers.PreTrainedModel.from_pretrained`.
            **kwargs: As there: dtype, device_map, quantization_config, ...

        Raises:
            CheckpointError: If a key is missing, unexpected or mismatched, with a list of these keys.
        """
        loaded = load_pretrained(cls, super().from_pretrained, pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        if model.model.mining is not None:
            keep_resident(model.model.mining)
        model.model.apply_freezing()
        return loaded

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision: CLIPVisionModel | str | os.PathLike[str],
        high_res_vision: HighResEncoder | str | os.PathLike[str] | None,
        text: PreTrainedModel | str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        prompt_template: str = "vicuna_v1",
        **config_fields: Any,
    ) -> MiniGeminiForConditionalGeneration:
        """Build a new model, ready for training, from pretrained parts; see :func:`assembly.assemble`."""
        return assemble(
            cls, vision, high_res_vision, text, dtype=dtype, prompt_template=prompt_template, **config_fields
        )

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's embedding (vocabulary, d)."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the head (d → vocabulary)."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the head."""
        self.lm_head = new_embeddings

    def get_image_features(
        self, pixel_values: Tensor, high_res_pixel_values: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode, mine and project images; see :meth:`MiniGeminiModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, high_res_pixel_values, **kwargs)

    def forced_answer(
        self, pictures: Sequence[Sequence[Tensor]], tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]
    ) -> ForcedAnswer | None:
        """Return what fixes the answers about pictures that the reader does not know; None if there are none.

        Args:
            pictures: For each prompt, the (tokens, d) of the pictures that it asks about, as from
                :meth:`get_image_features`.
            tokenizer: The model's tokenizer.
            stop_ids: Tokens that end an answer.
        """
        reader = self.model.reader
        if reader is None or not reader.config.unknown_answer or not any(pictures):
            return None
        num_visual = self.config.geometry.num_visual_tokens
        unknown: Tensor = self.get_input_embeddings()(reader.unknown_reading())
        is_forced = [
            any(torch.equal(tokens[num_visual:], unknown.to(tokens)) for tokens in asked) for asked in pictures
        ]
        if not any(is_forced):
            return None
        words: list[int] = tokenizer(reader.config.unknown_answer, add_special_tokens=False).input_ids
        return ForcedAnswer([*words, stop_ids[0]], is_forced)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        high_res_pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> MiniGeminiOutput | tuple[Any, ...]:
        """Compute the logits of the next token at every position of prompts with images.

        Args:
            input_ids: (b, l), with `image_token_id` at each visual token.
            pixel_values: (i, 3, h, h) normalised LR images of all prompts, in the order of their tokens.
            high_res_pixel_values: (i, 3, H, H) normalised HR images.
            attention_mask: (b, l), 0 at padding.
            position_ids: (b, l); by default counted from each row's first real token.
            past_key_values: Cache of the tokens before these, by its name before transformers 5.24.
            inputs_embeds: (b, l, d) instead of `input_ids`.
            labels: (b, l) target ids, -100 for no loss.
            logits_to_keep: Number of last positions to compute logits for, or their indices; 0 means all.
            mm_encoder_outputs: `{"image": get_image_features(...)}` instead of pixels, for images already encoded.
            output_router_logits: Whether a mixture of experts adds its load-balancing loss; by default as the
                `text_config` says.
            return_dict: False returns a tuple.
            cache: Cache of the tokens before these.
            **kwargs: Passed to the language model (use_cache, output_hidden_states, ...).
        """
        text_config = self.config.text_config
        balance = (
            getattr(text_config, "output_router_logits", False)
            if output_router_logits is None
            else output_router_logits
        )
        num_items = {key: kwargs.pop(key) for key in ("num_items_in_batch", "shift_labels") if key in kwargs}
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            high_res_pixel_values=high_res_pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **rename_cache({"cache": cache, "past_key_values": past_key_values}),
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **({"output_router_logits": True} if balance else {}),
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep  # -0 keeps all
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        cap = getattr(text_config, "final_logit_softcapping", None)
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=text_config.vocab_size, **num_items)
        aux_loss = self._balance_loss(outputs, attention_mask) if balance else None
        if loss is not None and aux_loss is not None:
            loss = loss + text_config.router_aux_loss_coef * aux_loss.to(loss.device)
        outputs.last_hidden_state = None
        result = MiniGeminiOutput(**{**outputs, "loss": loss, "logits": logits, "aux_loss": aux_loss})
        return result.to_tuple() if return_dict is False else result

    def _balance_loss(self, outputs: MiniGeminiOutput, attention_mask: Tensor | None) -> Tensor:
        """Load-balancing loss of a mixture of experts (Switch Transformer, equations 4 to 6)."""
        from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

        config = self.config.text_config
        num_experts = getattr(config, "num_local_experts", None) or config.num_experts
        router_logits: Any = outputs.router_logits
        loss: Any = load_balancing_loss_func(router_logits, num_experts, config.num_experts_per_tok, attention_mask)
        return loss

    def generate(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: Tensor | None = None, generation_config: GenerationConfig | None = None, **kwargs: Any
    ) -> Any:
        """Continue prompts with images; the arguments are those of `transformers.GenerationMixin.generate`.

        Each image is encoded once, for any number of new tokens. `no_repeat_ngram_size` applies to new tokens only: in
        a dialogue, every turn repeats the words of the format and the tags around captions.

        Args:
            inputs: (b, l) prompts; or give `input_ids`.
            generation_config: Options; keyword arguments take precedence.
            **kwargs: The inputs from the processor, options, `streamer`, `stopping_criteria`, ...

        Raises:
            ContextOverflowError: If the prompt and the requested tokens do not fit the language model's context.
            InputError: If an option does not work with this model; the message names it.
        """
        prompt = kwargs.get("input_ids", inputs)
        options = generation_config or self.generation_config
        check_options(self.config, options, {**kwargs, "input_ids": prompt})
        if prompt is not None:
            asked = kwargs.get("max_new_tokens", options.max_new_tokens)
            check_context(self.config, prompt, kwargs.get("attention_mask"), asked or 1)
        library: Any = super()
        with deferred_imports():
            return library.generate(inputs, generation_config, **rename_cache(kwargs))

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        """Give the logits processors prompts in which every id is in the vocabulary."""
        library: Any = super()
        mapped, num_prompt = ImageTokenMap(self.config), kwargs.get("input_ids_seq_length") or 0
        if isinstance(kwargs.get("encoder_input_ids"), Tensor):
            kwargs["encoder_input_ids"] = mapped(kwargs["encoder_input_ids"])
        processors = LogitsProcessorList(
            NewTokensProcessor(each, num_prompt) if isinstance(each, NoRepeatNGramLogitsProcessor) else each
            for each in library._get_logits_processor(*args, **kwargs)
        )
        return InVocabularyProcessors(processors, mapped)

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> CandidateGenerator:
        """Give the candidate generator a prompt of ids in the vocabulary, and an assistant model no pictures."""
        library: Any = super()
        mapped = ImageTokenMap(self.config)
        if kwargs.get("assistant_model") is not None:
            kwargs["model_kwargs"] = without_images(kwargs["model_kwargs"])
        for name in ("input_ids", "inputs_tensor"):
            if isinstance(kwargs.get(name), Tensor):
                kwargs[name] = mapped(kwargs[name])
        return InVocabularyCandidates(library._get_candidate_generator(*args, **kwargs), mapped)


AutoModelForImageTextToText.register(MiniGeminiConfig, MiniGeminiForConditionalGeneration)
