"""The image generator that ships in the package: a small latent diffusion model in the format of diffusers.

It is `diffusers:FOLDER` with the size, steps and guidance that it was trained for, read from `nano.json` in that
folder. It draws in one size only; a request for another size gets a notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.nano.foreign_warnings import without_foreign_warnings
from mgem_agent.nano.gguf_conversion import quiet_transformers
from mgem_agent.nano.language_model import nano_cache
from mgem_agent.nano.seals import explain_damage
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.diffusers.call import DiffusersCall
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.diffusers.logging import quiet_diffusers
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.tools.diffusers.plan import Defaults
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.vocabulary import Vocabulary

__all__ = ["DIFFUSION_WEIGHTS", "VOCABULARY_FILE", "NanoDrawing", "NanoGenerator"]

DIFFUSION_WEIGHTS = Path(__file__).parent / "weights" / "diffusion"
"""The diffusers folder, with `nano.json` in it."""


VOCABULARY_FILE = "vocabulary.json"
"""File of that folder with the things and places that the weights can draw."""


class NanoDrawing(BaseModel):
    """The settings that the weights were trained for, from `nano.json`.

    Attributes:
        size_px: Width and height of a picture.
        steps: Denoising steps if a request sets none.
        guidance_scale: Guidance if a request sets none.
        without_effect: Fields of a request that do not affect these weights.
        options: Other arguments of the pipeline, such as `use_resolution_binning`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int = Field(default=128, ge=16)
    steps: int = Field(default=12, ge=1)
    guidance_scale: float = Field(default=3.0, ge=0)
    without_effect: tuple[Literal["negative_prompt", "seed", "num_inference_steps", "guidance_scale"], ...] = ()
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


class NanoGenerator(DiffusersGenerator):
    """Draws with the built-in diffusion model.

    Args:
        options: Options of loading and drawing; by default those of the training.
        folder: Folder of the weights.

    Raises:
        GeneratorUnavailableError: If `nano.json` cannot be read. Missing weights raise it when drawing begins.
    """

    def __init__(self, options: DiffusersOptions | None = None, *, folder: Path = DIFFUSION_WEIGHTS) -> None:
        self._folder = folder
        drawing = (
            read_drawing(folder) if _is_there(folder) else NanoDrawing()
        )  # a program that only chats needs no weights
        given = (options or DiffusersOptions()).model_dump(exclude_unset=True)
        # Rounding in a batch changes some pixels by one, so only single pictures can be redrawn exactly.
        own = {"local_files_only": True, "max_batch_size": 1}
        super().__init__(str(folder), DiffusersOptions.model_validate({**own, **given}))
        seed = 0 if "seed" in drawing.without_effect else None
        self._defaults = Defaults(drawing.steps, drawing.guidance_scale, seed, drawing.options)
        self._name = "nano"
        self._size = (drawing.size_px, drawing.size_px)
        self._own_capabilities: Capabilities | None = None

    @classmethod
    def from_name(cls, rest: str, **options: object) -> Self:
        """The diffusion model in the box: small pictures of simple things, on any machine, without a network: `nano`.

        Args:
            rest: Must be empty.
            options: See :class:`DiffusersOptions`.

        Raises:
            InputError: If anything follows `nano` in the name, or an option is unknown or has an invalid value.
            GeneratorUnavailableError: If `nano.json` cannot be read.
        """
        if rest.strip():
            raise InputError(f"'nano:{rest}' has a part too many: there is one such generator. Write 'nano'.")
        return cls(DiffusersOptions.parse(options, generator="nano"))

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of its pipeline, in one size, without arguments that do not affect the weights.

        Raises:
            GeneratorUnavailableError: If the weights are not in this installation.
        """
        if self._own_capabilities is None:
            unread: dict[str, Any] = {name: False for name in read_drawing(self._folder).without_effect}
            own: dict[str, Any] = {"sizes": (self._size,), "vocabulary": read_vocabulary(self._folder)}
            own |= unread | {"is_deterministic": "seed" in unread}
            with without_foreign_warnings():  # it imports diffusers
                self._own_capabilities = super().capabilities.model_copy(update=own)
        return self._own_capabilities

    def _load(self) -> DiffusersCall:
        if problem := explain_damage(self._folder, nano_cache()):
            raise GeneratorUnavailableError(f"The generator 'nano' cannot be loaded. {problem}")
        with without_foreign_warnings(), quiet_diffusers(), quiet_transformers():
            return super()._load()

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch; see :meth:`DiffusersGenerator.generate`. The model is called `nano`, not by its folder."""
        for event in super().generate(requests, pictures=pictures, cancel=cancel, num_previews=num_previews):
            yield replace(event, model="nano") if isinstance(event, ImageResult) else event


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the vocabulary of the weights in a folder; None for weights that take any caption."""
    file = folder / VOCABULARY_FILE
    if not file.is_file():
        return None
    try:
        return Vocabulary.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise GeneratorUnavailableError(
            f"{str(file)!r} does not say what the weights can draw: {error}. Install mgem-agent again."
        ) from error


def _is_there(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def read_drawing(folder: Path) -> NanoDrawing:
    """Read the settings that the weights in a folder were trained for."""
    if not _is_there(folder):
        raise GeneratorUnavailableError(
            f"The weights of the generator 'nano' are not in this installation: there is no {str(folder)!r}. Install a "
            "release of mgem-agent that has them, or draw with another: mgem generators"
        )
    file = folder / "nano.json"
    try:
        return NanoDrawing.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise GeneratorUnavailableError(
            f"{str(file)!r} does not say what the weights were trained for: {error}. Install mgem-agent again."
        ) from error
