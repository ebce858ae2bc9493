"""The processor: it turns pictures and prompts into the model's input tensors.

It is an ordinary transformers processor with three differences for Mini-Gemini: a prompt is tokenised piece by piece
(see `prompts.tokens`), the image mark `<image>` is text that is never added to a vocabulary, and pictures may be
anything that `load_image` takes. It checks that the numbers of marks and pictures match, and pads on the left, so that
`generate` can take prompts with and without pictures as one batch.

It can also be built for the authors' checkpoints, whose folders have a configuration and a tokenizer but no processor.

Shapes: b prompts, l tokens of the longest, i images of all prompts together.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import MultiModalData, ProcessorMixin

from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.core_model.prompts.batch import (
    TEXT_OPTIONS,
    PromptBatchOptions,
    images_by_prompt,
    pad_rows,
    prompt_columns,
    split_options,
)
from mgem_agent.core_model.prompts.templates import (
    RenderedDialogue,
    load_prompt_template,
    prompt_template_names,
    prompt_template_stop_tokens,
    render_dialogue,
)
from mgem_agent.core_model.prompts.tokens import ImageTokens, decode_ids, disarm_dialogue, encode_prompt
from mgem_agent.core_model.tokenizer_loading import load_tokenizer
from mgem_agent.errors import PromptError

if TYPE_CHECKING:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

__all__ = ["MiniGeminiProcessor"]

OWN_SETTINGS = ("chat_template", "image_token", "image_token_id", "num_image_tokens", "prompt_template")


class MiniGeminiProcessor(ProcessorMixin):
    """Make the model's inputs from prompts or dialogues with pictures.

    Args:
        image_processor: Makes the tensors of the pictures.
        tokenizer: The language model's tokenizer. Its padding side becomes left, which generation needs: transformers'
            pipelines pad by it.
        chat_template: A Jinja template for dialogues; by default that of `prompt_template`.
        image_token: The text that marks an image in a prompt.
        image_token_id: The id of one visual token; by default the first id after the vocabulary.
        num_image_tokens: Visual tokens of an image.
        prompt_template: Name of the dialogue format, one of `prompt_template_names()`.
    """

    def __init__(
        self,
        image_processor: MiniGeminiImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        image_token: str = "<image>",
        image_token_id: int | None = None,
        num_image_tokens: int = 576,
        prompt_template: str = "vicuna_v1",
    ) -> None:
        self.image_token = image_token
        self.image_token_id = len(tokenizer) if image_token_id is None else image_token_id
        self.num_image_tokens = num_image_tokens
        self.prompt_template = prompt_template
        default_template = load_prompt_template(prompt_template)
        tokenizer.padding_side = "left"
        super().__init__(image_processor, tokenizer, chat_template=chat_template or default_template)

    @classmethod
    def from_model_config(
        cls, config: MiniGeminiConfig, tokenizer: PreTrainedTokenizerBase, **settings: Any
    ) -> MiniGeminiProcessor:
        """Make the processor for a model.

        Args:
            config: The model's configuration.
            tokenizer: The language model's tokenizer.
            **settings: Arguments of the class that override the configuration.
        """
        fitting: dict[str, Any] = {
            "image_token_id": config.image_token_id,
            "num_image_tokens": config.geometry.num_image_tokens,
            "prompt_template": config.prompt_template,
        }
        return cls(MiniGeminiImageProcessor.from_model_config(config), tokenizer, **(fitting | settings))

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> MiniGeminiProcessor:
        """Load a saved processor, or make one for a model's folder.

        Args:
            pretrained_model_name_or_path: A folder or hub id, with the files of a processor, or with a configuration
                that `MiniGeminiConfig` reads and a tokenizer.
            **kwargs: Arguments of the class to override, and options of loading (`cache_dir`, `revision`, `subfolder`,
                `local_files_only`, `token`, ...), as everywhere in transformers.
        """
        own = {name: kwargs.pop(name) for name in OWN_SETTINGS if name in kwargs}
        if "prompt_template" in own:
            own.setdefault("chat_template", load_prompt_template(own["prompt_template"]))
        saved, _ = cls.get_processor_dict(pretrained_model_name_or_path, **kwargs)
        tokenizer = load_tokenizer(pretrained_model_name_or_path, **kwargs)
        if "num_image_tokens" in saved:
            image_processor = MiniGeminiImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
            return cls(
                image_processor, tokenizer, **({name: saved[name] for name in OWN_SETTINGS if name in saved} | own)
            )
        from mgem_agent.core_model.configuration import MiniGeminiConfig

        config = MiniGeminiConfig.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return cls.from_model_config(config, tokenizer, **own)

    @property
    def image_tokens(self) -> ImageTokens:
        """The mark and ids of an image in a prompt."""
        return ImageTokens(self.image_token, self.image_token_id, self.num_image_tokens)

    @property
    def stop_token_ids(self) -> list[int]:
        """Ids that end an answer: the tokenizer's EOS and the end of a turn in the dialogue format."""
        tokens = {self.tokenizer.eos_token, *prompt_template_stop_tokens(self.prompt_template)} - {None}
        ids = {token: self.tokenizer.convert_tokens_to_ids(token) for token in tokens}
        unknown = self.tokenizer.unk_token_id  # the id of anything outside the vocabulary
        return sorted(
            {
                id_
                for token, id_ in ids.items()
                if id_ is not None and (id_ != unknown or token == self.tokenizer.unk_token)
            }
        )

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that the processor makes."""
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names]

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Any = None, text: str | Sequence[str] | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Make the model's inputs.

        Args:
            images: One picture, a flat list of them for all prompts in order, or one list for each prompt; each as
                `load_image` takes it.
            text: One prompt or several, with one mark `<image>` for each image.
            **kwargs: See `PromptBatchOptions`; the options of `MiniGeminiImageKwargs` are accepted too.

        Returns:
            `input_ids` and `attention_mask`, both (b, l), and, if there are pictures, `pixel_values` (i, 3, s, s) and
            `high_res_pixel_values` (i, 3, S, S), in the order of the marks. Without text, only the latter two.

        Raises:
            PromptError: If the numbers of marks and pictures differ, or the prompts cannot form a batch.
            ImageError: If a picture cannot be read.
        """
        options, image_options = split_options(kwargs)
        if text is None:
            if images is None:
                raise PromptError("There is nothing to process. Give text, images, or both.")
            features: BatchFeature = self.image_processor(
                images, return_tensors=options.return_tensors, **image_options
            )
            return features
        prompts = [text] if isinstance(text, str) else text
        if not isinstance(prompts, Sequence) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise PromptError(f"text must be a string or a list of at least one string, got {text!r:.80}.")
        return self._features(prompts, images, options, image_options)

    def _features(
        self,
        prompts: Sequence[str],
        images: Any,
        options: PromptBatchOptions,
        image_options: Mapping[str, Any],
        spans: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> BatchFeature:
        """Make the model's inputs, and `assistant_masks` if character spans of the prompts are given."""
        counts = [prompt.count(self.image_token) for prompt in prompts]
        pictures = [one for row in images_by_prompt(images, counts, prompts, self.image_token) for one in row]
        encoded = [
            encode_prompt(
                prompt,
                self.tokenizer,
                self.image_tokens,
                add_special_tokens=options.add_special_tokens,
                with_offsets=options.return_offsets_mapping or spans is not None,
            )
            for prompt in prompts
        ]
        pad_ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        data: dict[str, Any] = prompt_columns(encoded, options, [id_ for id_ in pad_ids if id_ != self.image_token_id])
        if not options.return_attention_mask:
            del data["attention_mask"]
        if options.return_text_replacement_offsets:
            data["text_replacement_offsets"] = [self._replacements(prompt) for prompt in prompts]
        if options.return_mm_token_type_ids:
            data["mm_token_type_ids"] = self.create_mm_token_type_ids(data["input_ids"])
        if spans is not None:
            masks = [tokens.mask(row) for tokens, row in zip(encoded, spans, strict=True)]
            data["assistant_masks"] = pad_rows(masks, len(data["input_ids"][0]), 0, options.padding_side)
        if pictures:
            data.update(self.image_processor(pictures, return_tensors=options.return_tensors, **image_options))
        not_tensors: Any = self.skip_tensor_conversion
        return BatchFeature(data, tensor_type=options.return_tensors, skip_tensor_conversion=not_tensors)

    def _replacements(self, prompt: str) -> list[dict[str, Any]]:
        """Return the span of each image's mark in a prompt, and of its visual tokens in the expanded prompt."""
        mark, expanded = self.image_token, self.image_token * self.num_image_tokens
        found = []
        for index, match in enumerate(re.finditer(re.escape(mark), prompt)):
            start = match.start() + index * (len(expanded) - len(mark))
            spans = {"span": match.span(), "new_span": (start, start + len(expanded))}
            found.append({"type": "image", **spans, "text": mark, "replacement": expanded})
        return found

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_tensors: str | None = "pt",
        return_dict: bool = False,
        images: Any = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render one or several dialogues, and tokenise them if requested.

        Args:
            conversation: A list of messages, as `render_dialogue` describes them, or a list of such lists.
            chat_template: A Jinja template, or one of `prompt_template_names()`, instead of the processor's own
                template.
            add_generation_prompt: Whether to end with the header of the assistant's next turn.
            continue_final_message: Whether to leave the last message open, for the model to continue.
            return_assistant_tokens_mask: Whether to return `assistant_masks` (b, l): 1 for each token that the
                assistant must generate, including the end of its turn. Needs `tokenize` and `return_dict`.
            tokenize: Whether to return token ids rather than text.
            return_tensors: `pt`, `np`, or None for lists.
            return_dict: Whether to return all inputs of the model, or only `input_ids`.
            images: Pictures for image parts without one, as in a call of the processor.
            processor_kwargs: Options of the call of the processor.
            **kwargs: More such options, or variables of the template, such as `number_images`.

        Returns:
            Text, or a list of texts; with `tokenize`, `input_ids` (b, l), or with `return_dict` a `BatchFeature`.

        Raises:
            PromptError: If a dialogue is malformed, or its images do not match it.
            ImageError: If a picture cannot be read.
        """
        if return_assistant_tokens_mask and not (tokenize and return_dict):
            raise PromptError("return_assistant_tokens_mask needs tokenize=True and return_dict=True.")
        template = self._template(chat_template)
        variables = {name: value for name, value in kwargs.items() if is_template_variable(name, template)}
        call_kwargs = {name: value for name, value in kwargs.items() if name not in variables and value is not None}
        call_kwargs |= {
            **(processor_kwargs or {}),
            "return_tensors": "pt" if return_tensors == "auto" else return_tensors,
        }
        images = call_kwargs.pop("images", images)
        options, image_options = split_options(call_kwargs)
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        rendered = [
            render_dialogue(
                disarm_dialogue(dialogue, self.tokenizer, self.image_token),
                template=template,
                image_token=self.image_token,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                return_assistant_spans=return_assistant_tokens_mask,
                variables=variables,
            )
            for dialogue in (conversation if batched else [conversation])
        ]
        texts = [dialogue.text for dialogue in rendered]
        if not tokenize:
            return texts if batched else texts[0]
        if self.tokenizer.bos_token and texts[0].startswith(self.tokenizer.bos_token):
            options = dataclasses.replace(options, add_special_tokens=False)  # the template already contains them
        spans = [dialogue.assistant_spans for dialogue in rendered] if return_assistant_tokens_mask else None
        features = self._features(texts, self._dialogue_images(rendered, images), options, image_options, spans)
        return features if return_dict else features["input_ids"]

    def _template(self, template: str | None) -> str:
        """Return the Jinja template for a name, a template or None."""
        if template is None:
            own: Any = self.chat_template
            if not isinstance(own, str):
                raise PromptError("The processor has several chat templates. Give the text of one as chat_template.")
            return own
        return load_prompt_template(template) if template in prompt_template_names() else template

    def _dialogue_images(self, rendered: Sequence[RenderedDialogue], images: Any) -> list[list[Any]]:
        """Return the pictures of each dialogue: those in its parts, or the given ones for parts without one."""
        missing = [sum(held is None for held in dialogue.images) for dialogue in rendered]
        given = images_by_prompt(images, missing, [dialogue.text for dialogue in rendered], self.image_token)
        pictures = []
        for dialogue, row in zip(rendered, given, strict=True):
            more = iter(row)
            pictures.append([next(more) if held is None else held for held in dialogue.images])
        return pictures

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str | list[str]:
        """Turn token ids back into text.

        Args:
            token_ids: The ids of one sequence, or of several. Each image becomes one mark; ids outside the vocabulary,
                such as the -100 of labels, are skipped.
            skip_special_tokens: Whether to skip special tokens, including the marks.
            **kwargs: Further options of the tokenizer's `decode`.

        Returns:
            One text, or one for each sequence.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if isinstance(ids, int):
            ids = [ids]
        if len(ids) and (isinstance(ids[0], Sequence) or getattr(ids[0], "ndim", 0)):
            return self.batch_decode(ids, skip_special_tokens=skip_special_tokens, **kwargs)
        row = [int(id_) for id_ in ids]
        return decode_ids(row, self.tokenizer, self.image_tokens, skip_special_tokens=skip_special_tokens, **kwargs)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        """Turn the token ids of several sequences back into text; see `decode`."""
        return [str(self.decode(row, skip_special_tokens=skip_special_tokens, **kwargs)) for row in sequences]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> str | list[str]:
        """Turn the output of `generate` into text; see `decode`."""
        return self.decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **kwargs: Any) -> str:
        """Return the text of an image in an expanded prompt; inference servers use this."""
        return self.image_token * self.num_image_tokens

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Return the numbers of visual tokens for images of given sizes (height, width); inference servers use this."""
        if image_sizes is None:
            return MultiModalData()
        return MultiModalData(
            num_image_tokens=[self.num_image_tokens] * len(image_sizes), num_image_patches=[1] * len(image_sizes)
        )


def is_template_variable(name: str, template: str) -> bool:
    """Return whether a keyword is a variable of the template rather than an option of the call."""
    return name in template and name not in TEXT_OPTIONS


def _register() -> None:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

    AutoProcessor.register(MiniGeminiConfig, MiniGeminiProcessor)


_register()
