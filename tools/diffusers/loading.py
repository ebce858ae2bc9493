"""Finding, reading and loading a diffusers pipeline, by folder or hub id, with errors that say what to run next.

The class of a model is in its `model_index.json`, a small file that is read or downloaded before any weights. Code in a
model's folder is never run.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from mgem_agent.errors import GeneratorUnavailableError, MissingDependencyError
from mgem_agent.meta_device import without_meta_values
from mgem_agent.tools.diffusers.families import COMBINED
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.user_files import user_path

__all__ = [
    "LARGE_PARTS",
    "choose_device",
    "choose_dtype",
    "load_pipeline",
    "make_scheduler",
    "offload_parts",
    "read_index",
]

# The parts that hold nearly all weights; quantising the autoencoder would cost more quality than it saves memory.
LARGE_PARTS = (
    "decoder",
    "prior_prior",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "transformer",
    "unet",
)

_BFLOAT16_ONLY = frozenset({"ZImageOmniPipeline"})
"""Classes that turn pictures into bfloat16 themselves, so that other weights cannot read them."""


def read_index(model: str, options: DiffusersOptions) -> dict[str, Any]:
    """Read the class and the settings of a pipeline, without its weights.

    Args:
        model: Folder or hub id.
        options: Options with the revision, and whether downloading is allowed.

    Returns:
        The content of `model_index.json`, and under `guidance_embeds` whether the transformer of FLUX or HunyuanImage
        uses guidance.

    Raises:
        GeneratorUnavailableError: If there is no such folder or id, or it has no complete pipeline.
    """
    index = _read_json(model, "model_index.json", options)
    if not isinstance(index.get("_class_name"), str):
        raise GeneratorUnavailableError(
            f"The model_index.json of {model!r} names no pipeline class. {_fetch_again(model)}"
        )
    name = index["_class_name"]
    if name.startswith(("Flux", "HunyuanImage")) and not name.startswith("Flux2"):
        index["guidance_embeds"] = _read_json(model, "transformer/config.json", options).get("guidance_embeds", False)
    return index


def _read_json(model: str, name: str, options: DiffusersOptions) -> dict[str, Any]:
    folder = user_path(model)
    if folder.is_dir():
        path = folder / name
        if not path.is_file():
            raise GeneratorUnavailableError(
                f"The folder {model!r} has no {name}: it is not a complete diffusers pipeline. " + _fetch_again(model)
            )
    elif _looks_like_path(model):
        raise GeneratorUnavailableError(
            f"There is no folder {model!r}. Give a folder with a model_index.json, a hub id such as "
            "'stabilityai/sdxl-turbo', or a short name such as 'sdxl'."
        )
    else:
        path = _fetch(model, name, options)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GeneratorUnavailableError(
            f"{name} of {model!r} cannot be read: {error}. {_fetch_again(model)}"
        ) from error
    if not isinstance(content, dict):
        raise GeneratorUnavailableError(f"{name} of {model!r} is not a JSON object. {_fetch_again(model)}")
    return content


def _looks_like_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") != 1 or "\\" in model


def _fetch_again(model: str) -> str:
    """Return the command to run for an incomplete model."""
    if user_path(model).is_dir() or _looks_like_path(model):
        return f"Run: hf download ID --local-dir {model}, with the model's hub ID"
    return f"Run: hf download {model}"


def _fetch(model: str, name: str, options: DiffusersOptions) -> Path:
    """Download a file of a hub repository, or take it from the cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, name, revision=options.revision, local_files_only=options.local_files_only))
    except (OSError, ValueError) as error:
        raise _unavailable(model, error) from error


def _unavailable(model: str, error: BaseException) -> GeneratorUnavailableError:
    """Return an error that says why a model is not available, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{model}"
        reason = f"you must accept its licence first: open {page}, then run: hf auth login"
    elif isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        # It is also a FileNotFoundError, so it must be checked before files that are missing in a folder.
        reason = f"it is not on this machine and the hub cannot be reached. With a network, run: hf download {model}"
    elif isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        reason = "the hub has no such model. Look for its id at https://huggingface.co/models?library=diffusers"
    elif isinstance(error, errors.RevisionNotFoundError):
        reason = "the hub has the model, but not this revision. Leave out the option revision"
    elif isinstance(error, errors.EntryNotFoundError):
        reason = "it is not in the format of diffusers: choose one that has a model_index.json"
    else:
        reason = f"{_first_line(error)} {_fetch_again(model)}"
    return GeneratorUnavailableError(
        f"The model {model!r} cannot be loaded: {reason}.", retryable=isinstance(error, ConnectionError)
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}".rstrip(": .") + "."


def load_pipeline(model: str, class_name: str, options: DiffusersOptions) -> Any:
    """Load a pipeline and move it to its device.

    Args:
        model: Folder or hub id.
        class_name: Its class, from :func:`read_index`.
        options: How it is loaded.

    Raises:
        GeneratorUnavailableError: If weights are missing, or do not fit this machine.
        MissingDependencyError: If an option needs a package that is not installed.
    """
    import diffusers

    if class_name.startswith(("StableCascade", "Wuerstchen")):
        _restore_wuerstchen()
    # Second stages name their first stage, which only the auto class goes and gets.
    loader: Any = diffusers.AutoPipelineForText2Image if class_name in COMBINED else diffusers.DiffusionPipeline
    device = choose_device(options)
    dtype = choose_dtype(options, device, class_name)
    settings: dict[str, Any] = {
        "dtype": dtype,
        "variant": options.variant,
        "revision": options.revision,
        "local_files_only": options.local_files_only,
    }
    if options.quantization is not None:
        settings["quantization_config"] = _make_quantization(options, device, dtype)
    try:
        with without_meta_values():
            pipeline: Any = loader.from_pretrained(str(user_path(model)), **settings)
        _check_tokenizers(pipeline)
        if options.ip_adapter is not None:
            _put_on_adapter(pipeline, options)
        if options.scheduler is not None or options.scheduler_options:
            pipeline.scheduler = make_scheduler(pipeline, options.scheduler, options.scheduler_options)
        _place(pipeline, options, device)
    except ImportError as error:
        if error.name is None and options.quantization is None:
            raise _unavailable(model, error) from error  # diffusers itself says which package the pipeline needs
        raise MissingDependencyError(f"Loading {model!r}", str(error.name or "accelerate"), "quantization") from error
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise _unavailable(model, error) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_tokenizers(pipeline: Any) -> None:
    """Refuse a tokenizer whose files are missing: transformers makes an empty one that ignores the prompt."""
    for part, tokenizer in pipeline.components.items():
        if "tokenizer" not in part or tokenizer is None or not hasattr(tokenizer, "all_special_tokens"):
            continue
        if len(tokenizer) <= len(tokenizer.all_special_tokens):
            raise ValueError(f"the vocabulary of its {part} is missing")


def _restore_wuerstchen() -> None:
    """Make the components of Würstchen, also used by Stable Cascade, importable under their old name.

    diffusers 0.42 moved them without an alias, so neither the folders on the hub nor those that it saves could be
    loaded.
    """
    import diffusers
    from diffusers.pipelines.deprecated import wuerstchen

    if not hasattr(diffusers.pipelines, "wuerstchen"):
        setattr(diffusers.pipelines, "wuerstchen", wuerstchen)  # noqa: B010 (it is a module, which has no such name)
    for name in ("PaellaVQModel", "WuerstchenDiffNeXt", "WuerstchenPrior"):
        if not hasattr(diffusers, name):
            setattr(diffusers, name, getattr(wuerstchen, name))


def make_scheduler(pipeline: Any, name: str | None, changes: dict[str, Any] | None = None) -> Any:
    """Create a scheduler for a pipeline, from the settings of the current one.

    Args:
        pipeline: The pipeline.
        name: Class name; None for the current class.
        changes: Settings to change.

    Raises:
        GeneratorUnavailableError: If there is no such class, or it is not compatible with the pipeline.
    """
    import diffusers

    own = pipeline.scheduler
    cls = type(own) if name is None else getattr(diffusers, name, None)
    fitting = {type(own), *own.compatibles}
    if cls is None or cls not in fitting:
        raise GeneratorUnavailableError(
            f"Scheduler {name!r} is not compatible with this pipeline. Compatible schedulers: "
            + ", ".join(sorted(each.__name__ for each in fitting))
            + "."
        )
    return cls.from_config(own.config, **(changes or {}))


def choose_device(options: DiffusersOptions) -> str:
    """Return the device that runs a pipeline.

    Args:
        options: Its options.
    """
    import torch

    if options.device != "auto":
        return options.device
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def choose_dtype(options: DiffusersOptions, device: str, class_name: str) -> Any:
    """Return the data type of a pipeline's weights.

    Args:
        options: Its options.
        device: The device that runs it.
        class_name: Its class.
    """
    import torch

    from mgem_agent.core_model.dtype import default_dtype

    if options.dtype != "auto":
        return getattr(torch, options.dtype)
    if class_name in _BFLOAT16_ONLY:
        return torch.bfloat16
    return default_dtype(device)


def _make_quantization(options: DiffusersOptions, device: str, dtype: Any) -> Any:
    """Quantise the large components as they are loaded."""
    from diffusers.quantizers.pipe_quant_config import PipelineQuantizationConfig
    from diffusers.quantizers.quantization_config import TorchAoConfig

    backend = options.quantization_backend
    if backend == "auto":
        backend = "bitsandbytes" if device.startswith("cuda") else "torchao"
    if backend == "bitsandbytes":
        bits = options.quantization
        settings: dict[str, Any] = {f"load_in_{bits}bit": True}
        if bits == 4:
            settings.update(bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
        return PipelineQuantizationConfig(
            quant_backend=f"bitsandbytes_{bits}bit", quant_kwargs=settings, components_to_quantize=list(LARGE_PARTS)
        )
    from torchao.quantization import (  # type: ignore[import-untyped]
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
    )

    weights = Int8WeightOnlyConfig(version=2) if options.quantization == 8 else Int4WeightOnlyConfig()
    make_config: Any = TorchAoConfig  # untyped
    parts = ("decoder", "prior_prior", "transformer", "unet")
    return PipelineQuantizationConfig(quant_mapping={part: make_config(weights) for part in parts})


def _put_on_adapter(pipeline: Any, options: DiffusersOptions) -> None:
    if not hasattr(pipeline, "load_ip_adapter"):
        raise ValueError(f"{type(pipeline).__name__} takes no IP-Adapter; leave out the option ip_adapter.")
    encoder: dict[str, Any] = {}
    if options.ip_adapter_image_encoder is not None:
        # FLUX has a name of its own for it.
        names = ("image_encoder_folder", "image_encoder_pretrained_model_name_or_path")
        taken = inspect.signature(pipeline.load_ip_adapter).parameters
        encoder = {name: options.ip_adapter_image_encoder for name in names if name in taken}
    pipeline.load_ip_adapter(
        options.ip_adapter,
        subfolder=options.ip_adapter_subfolder,
        weight_name=options.ip_adapter_weight_name,
        local_files_only=options.local_files_only,
        **encoder,
    )


def _place(pipeline: Any, options: DiffusersOptions, device: str) -> None:
    """Move the weights to the device, or set up offloading."""
    if options.offload == "none":
        pipeline.to(device)
    elif device == "cpu":
        raise ValueError("offload needs an accelerator, and this machine has none; leave out the option.")
    elif options.offload == "group":
        import torch

        pipeline.enable_group_offload(torch.device(device), offload_type="leaf_level", use_stream="cuda" in device)
    else:
        offload_parts(pipeline, options)


def offload_parts(pipeline: Any, options: DiffusersOptions) -> None:
    """Set up offloading: components move to the accelerator when they are used.

    The hooks belong to a pipeline, so a pipeline that shares components needs its own; hooks of group offload belong to
    the components.
    """
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=choose_device(options))
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=choose_device(options))
