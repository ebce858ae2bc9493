"""Options that make a pipeline quicker or smaller: compiled blocks, caches between steps, tiles of the VAE.

What a pipeline offers is read from the classes of its parts, without weights. An option that a pipeline does not offer
is refused with the reason. Caches skip work in steps that change little, so they change the picture; measure how much
with `mgem bench generator`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mgem_agent.deferred_object import load_deferred
from mgem_agent.errors import GeneratorUnavailableError
from mgem_agent.tools.diffusers.families import PipelineTraits
from mgem_agent.tools.diffusers.options import DiffusersOptions

__all__ = ["SpeedTraits", "apply_speed", "describe_speed", "with_advice"]

_DENOISERS = ("transformer", "unet", "decoder", "prior_prior")
"""Parts that run in each step."""
_CACHES = {"first_block": "FirstBlockCacheConfig", "taylorseer": "TaylorSeerCacheConfig"}
"""Classes of diffusers with the settings of each cache."""
_MIN_CACHED_STEPS = 12
"""Steps from which a cache is advised: with fewer, each step changes much."""


@dataclass(frozen=True, slots=True)
class SpeedTraits:
    """What a pipeline offers.

    Attributes:
        class_name: The pipeline class.
        denoisers: Class of each part that runs in each step, by the name of the part.
        blocks: Parts with repeated blocks, which can be compiled by themselves.
        caches: Caches that its denoiser supports.
        advised: Options that `speed="fast"` sets on an accelerator.
    """

    class_name: str
    denoisers: Mapping[str, str]
    blocks: tuple[str, ...]
    caches: tuple[str, ...]
    advised: Mapping[str, Any]

    def describe(self) -> dict[str, str]:
        """Return each kind of option with its values, for display."""
        advised = ", ".join(f"{name}={value}" for name, value in self.advised.items())
        return {
            "compile": "blocks, whole" if self.blocks else "whole",
            "cache": ", ".join(self.caches) or f"none: {' and '.join(self.denoisers.values())} supports no cache",
            "quantization": "4, 8",
            "speed=fast": advised or "changes nothing",
        }


def describe_speed(traits: PipelineTraits, num_steps: int | None = None) -> SpeedTraits:
    """Return what a pipeline class offers.

    Args:
        traits: The class.
        num_steps: Usual number of steps of the model; None if unknown.
    """
    import diffusers

    cls: Any = getattr(diffusers, traits.class_name)
    parts = {name: part for name in _DENOISERS if (part := _part_class(cls, name)) is not None}
    blocks = tuple(name for name, part in parts.items() if getattr(part, "_repeated_blocks", None))
    caches = tuple(_CACHES) if any(issubclass(part, diffusers.CacheMixin) for part in parts.values()) else ()
    advised: dict[str, Any] = {"compile": "blocks"} if blocks else {}
    if caches and (num_steps is None or num_steps >= _MIN_CACHED_STEPS):
        advised["cache"] = "first_block"
        if traits.family.cache_threshold is not None:
            advised["cache_options"] = {"threshold": traits.family.cache_threshold}
    names = {name: part.__name__ for name, part in parts.items()}
    return SpeedTraits(traits.class_name, names, blocks, caches, advised)


def _part_class(cls: Any, name: str) -> Any:
    """Return the class of a part, from the annotation of the pipeline's constructor; None if it has no such part."""
    import diffusers

    parameter = inspect.signature(cls.__init__).parameters.get(name)
    found = None if parameter is None else parameter.annotation
    if isinstance(found, str):
        found = getattr(diffusers, found, None)
    found = load_deferred(found)
    return found if isinstance(found, type) and issubclass(found, diffusers.ModelMixin) else None


def with_advice(options: DiffusersOptions, speed: SpeedTraits, device: str) -> DiffusersOptions:
    """Return options with what `speed="fast"` advises; what is set already stays.

    Args:
        options: The options.
        speed: What the pipeline offers.
        device: The device; on a CPU nothing is advised.
    """
    if options.speed != "fast" or device == "cpu":
        return options
    advised = {name: value for name, value in speed.advised.items() if name not in options.model_fields_set}
    if "cache" in options.model_fields_set:
        advised.pop("cache_options", None)
    return options.model_copy(update=advised)


def apply_speed(pipeline: Any, options: DiffusersOptions) -> None:
    """Set up a loaded pipeline.

    Args:
        pipeline: The pipeline, on its device.
        options: Its options.

    Raises:
        GeneratorUnavailableError: If an option does not apply to the pipeline, or a cache has no such setting.
    """
    if options.vae_tiling:
        _enable_vae(pipeline, "vae_tiling", "enable_tiling")
    if options.vae_slicing:
        _enable_vae(pipeline, "vae_slicing", "enable_slicing")
    if options.cache != "none":
        _enable_cache(pipeline, options)
    if options.compile != "none":
        _compile(pipeline, options)


def _enable_vae(pipeline: Any, option: str, method: str) -> None:
    vae = pipeline.components.get("vae")
    if not hasattr(vae, method):
        has = "has no VAE" if vae is None else f"has a VAE ({type(vae).__name__}) without it"
        raise _inapplicable(pipeline, option, has)
    if method == "enable_tiling" and not _has_tiles(vae):
        raise _inapplicable(pipeline, option, f"has a VAE ({type(vae).__name__}) that diffusers cannot tile")
    try:
        getattr(vae, method)()
    except NotImplementedError as error:
        raise _inapplicable(pipeline, option, f"has a VAE ({type(vae).__name__}) without it") from error


def _has_tiles(vae: Any) -> bool:
    """Return false for an AutoencoderTiny of another form than TAESD's, the only one whose tiles diffusers can cut."""
    if type(vae).__name__ != "AutoencoderTiny":
        return True
    config = vae.config
    factor = config.upsampling_scaling_factor ** (len(config.decoder_block_out_channels) - 1)
    return bool(factor == vae.spatial_scale_factor and config.latent_channels == 4)


def _enable_cache(pipeline: Any, options: DiffusersOptions) -> None:
    from diffusers import CacheMixin, hooks

    parts = _denoisers(pipeline)
    cached: list[Any] = [part for part in parts.values() if isinstance(part, CacheMixin)]  # it has no types
    if not cached:
        names = " and ".join(type(part).__name__ for part in parts.values())
        raise _inapplicable(pipeline, f"cache={options.cache!r}", f"has a {names}, which supports no cache")
    make: Any = getattr(hooks, _CACHES[options.cache])
    known = {field.name for field in fields(make)}
    if strange := sorted(options.cache_options.keys() - known):
        raise GeneratorUnavailableError(
            f"cache_options has {', '.join(map(repr, strange))}, which the cache {options.cache!r} does not have. "
            f"Allowed: {', '.join(sorted(known))}."
        )
    for part in cached:
        part.enable_cache(make(**options.cache_options))


def _compile(pipeline: Any, options: DiffusersOptions) -> None:
    parts = _denoisers(pipeline)
    if options.compile == "whole":
        for part in parts.values():
            part.compile(**options.compile_options)
        return
    able = [part for part in parts.values() if getattr(part, "_repeated_blocks", None)]
    if not able:
        names = " and ".join(type(part).__name__ for part in parts.values())
        raise _inapplicable(pipeline, "compile='blocks'", f"has a {names} without repeated blocks; use compile='whole'")
    try:
        for part in able:
            part.compile_repeated_blocks(**options.compile_options)
    except ValueError as error:
        raise _inapplicable(pipeline, "compile='blocks'", f"cannot be compiled by blocks: {error}") from error


def _denoisers(pipeline: Any) -> dict[str, Any]:
    return {name: part for name in _DENOISERS if (part := pipeline.components.get(name)) is not None}


def _inapplicable(pipeline: Any, option: str, reason: str) -> GeneratorUnavailableError:
    return GeneratorUnavailableError(
        f"The option {option} does not apply: {type(pipeline).__name__} {reason}. Leave the option out. What applies: "
        "mgem generators NAME"
    )
