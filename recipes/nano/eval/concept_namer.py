"""Zero-shot naming of pictures with the CLIP model that the recipe `clip_pretrain` writes to `clip/`.

The embedding of a concept is the mean over several captions: its name alone and in each scenery (Radford et al., 2021,
section 3.1.4). Names are ranked by their similarity to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.backgrounds import SCENERY
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.nouns import with_article
from mgem_agent.user_files import user_path

__all__ = ["ConceptNamer", "clip_pixels"]

_TEXTS_AT_ONCE = 256
_PICTURES_AT_ONCE = 32


class ConceptNamer:
    """Ranks the names of all concepts for a picture.

    Args:
        model: A CLIP model.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        self._model: Any = model.eval()
        self._tokenizer = tokenizer
        self.names = tuple(concept.name for concept in load_concepts())
        self._concepts = self._embedded()

    @classmethod
    def open(cls, folder: str | Path) -> ConceptNamer:
        """Load it from a folder of transformers' `CLIPModel`, with its tokenizer.

        Raises:
            InputError: If the folder has no CLIP model.
        """
        where = user_path(folder)
        try:
            if not where.is_dir():
                raise OSError("there is no such folder")
            model: Any = CLIPModel.from_pretrained(where, dtype=torch.float32)
            return cls(model, CLIPTokenizer.from_pretrained(where))
        except (OSError, ValueError) as error:
            raise InputError(
                f"No CLIP model can be read from {str(where)!r}: {str(error).splitlines()[0]}. Give the folder clip/ "
                "of a run of: python -m mgem_agent.recipes.nano clip_pretrain"
            ) from error

    @torch.inference_mode()
    def name(self, pictures: Sequence[Image.Image], num: int = 5) -> list[list[str]]:
        """Return the most likely names for each picture, in order.

        Args:
            pictures: Pictures of any size, which are made square.
            num: Number of names.
        """
        side = self._model.config.vision_config.image_size
        ranked: list[list[str]] = []
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            pixels = torch.stack([clip_pixels(each, side) for each in pictures[start : start + _PICTURES_AT_ONCE]])
            found = F.normalize(self._model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
            best = (found @ self._concepts.T).topk(num).indices
            ranked += [[self.names[place] for place in row] for row in best.tolist()]
        return ranked

    @torch.inference_mode()
    def _embedded(self) -> Tensor:
        """Return the normalised embeddings of the concepts, (n, d)."""
        places = ["", *(f" {background.phrases[0]}" for background in SCENERY)]
        texts = [f"{with_article(name)}{place}" for name in self.names for place in places]
        rows = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            words = self._tokenizer(
                texts[start : start + _TEXTS_AT_ONCE], padding=True, truncation=True, return_tensors="pt"
            )
            found = self._model.get_text_features(
                input_ids=words["input_ids"], attention_mask=words["attention_mask"]
            ).pooler_output
            rows.append(F.normalize(found, dim=-1))
        means = torch.cat(rows).view(len(self.names), len(places), -1).mean(1)
        return F.normalize(means, dim=-1)


def clip_pixels(picture: Image.Image, side: int) -> Tensor:
    """Return a picture as input of the model, (3, side, side) normalised; scaling down averages, as in its training.

    Args:
        picture: A picture of any size, which is made square.
        side: Side of the model's pictures, in pixels.
    """
    is_smaller = min(picture.size) < side
    fitting = picture.convert("RGB").resize(
        (side, side), Image.Resampling.BICUBIC if is_smaller else Image.Resampling.BOX
    )
    pixels = torch.from_numpy(np.asarray(fitting, dtype=np.float32)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (pixels - mean) / std
