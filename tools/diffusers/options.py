"""Options of the generator `diffusers:...`: how a pipeline is loaded and run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from mgem_agent.errors import InputError

__all__ = ["DiffusersOptions"]


class DiffusersOptions(BaseModel):
    """How a pipeline is loaded, placed and run.

    Attributes:
        dtype: Data type of the weights; `auto` is the best of the device: bfloat16 if its hardware supports it, else
            float16 on an accelerator and float32 on the CPU.
        device: Device, such as `cuda:1`; `auto` is the first accelerator, or the CPU.
        offload: Unused weights that are kept off the accelerator: whole components (`model`), single layers
            (`sequential`, slowest, least memory) or leaf modules that are prefetched (`group`).
        quantization: Bits of the weights of the large components.
        quantization_backend: `auto` is bitsandbytes on CUDA and torchao elsewhere.
        variant: Variant of the weight files, such as `fp16`.
        revision: Branch, tag or commit on the hub.
        local_files_only: Whether nothing is downloaded.
        speed: `fast` sets what suits the model's family on a GPU, where no option says otherwise; see
            `mgem generators NAME`. It may change pictures a little.
        compile: What `torch.compile` compiles of the denoiser: its repeated blocks, or the whole. The first picture of
            each size takes much longer.
        compile_options: Arguments of `torch.compile`, such as `{"mode": "max-autotune-no-cudagraphs"}`.
        cache: How steps that change little reuse earlier ones: `first_block` while the output of the first block hardly
            changes, `taylorseer` by extrapolation. It changes pictures, and pictures of one batch affect each other.
        cache_options: Settings of the cache, such as `{"threshold": 0.1}` or `{"cache_interval": 3}`.
        vae_tiling: Whether the VAE works tile by tile: less memory for large pictures.
        vae_slicing: Whether the VAE works picture by picture: less memory for large batches.
        scheduler: Class name of another scheduler, such as `LCMScheduler`.
        scheduler_options: Changes to its configuration, such as `{"timestep_spacing": "trailing"}`.
        ip_adapter: Folder or hub id of IP-Adapter weights, for pictures as references.
        ip_adapter_subfolder: Folder within it.
        ip_adapter_weight_name: File within that.
        ip_adapter_image_encoder: Folder or hub id of its image encoder, if that is not in the folder `image_encoder`
            next to the weights.
        ip_adapter_scale: Weight of the references, from 0.
        num_inference_steps: Default number of steps.
        guidance_scale: Default guidance scale.
        max_batch_size: Maximum number of pictures in a batch; `auto` for as many as are estimated to fit into memory.
        gather_s: Seconds that a batch waits for requests from other threads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"
    offload: Literal["none", "model", "sequential", "group"] = "none"
    quantization: Literal[4, 8] | None = None
    quantization_backend: Literal["auto", "bitsandbytes", "torchao"] = "auto"
    variant: str | None = None
    revision: str | None = None
    local_files_only: bool = False
    speed: Literal["plain", "fast"] = "plain"
    compile: Literal["none", "blocks", "whole"] = "none"
    compile_options: dict[str, JsonValue] = Field(default_factory=dict)
    cache: Literal["none", "first_block", "taylorseer"] = "none"
    cache_options: dict[str, JsonValue] = Field(default_factory=dict)
    vae_tiling: bool = False
    vae_slicing: bool = False
    scheduler: str | None = None
    scheduler_options: dict[str, JsonValue] = Field(default_factory=dict)
    ip_adapter: str | None = None
    ip_adapter_subfolder: str = ""
    ip_adapter_weight_name: str | None = None
    ip_adapter_image_encoder: str | None = None
    ip_adapter_scale: float = Field(default=0.6, ge=0)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    max_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    gather_s: float = Field(default=0.01, ge=0, le=10)

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if (self.ip_adapter is None) != (self.ip_adapter_weight_name is None):
            raise ValueError(
                "ip_adapter and ip_adapter_weight_name (a folder and a file in it) must be given together."
            )
        return self

    @property
    def batch_limit(self) -> int | None:
        """The maximum batch size, as far as it is a number."""
        return None if self.max_batch_size == "auto" else self.max_batch_size

    @classmethod
    def parse(cls, options: dict[str, object], *, generator: str) -> Self:
        """Validate the options of a caller; numbers may be given as text.

        Raises:
            InputError: If an option is unknown or has an invalid value.
        """
        for name in ("quantization", "max_batch_size"):
            if isinstance(number := options.get(name), str) and number.isdecimal():
                options = {**options, name: int(number)}
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'options'}: {each['msg']} (got {each['input']!r})"
                for each in error.errors()
            )
            known = ", ".join(sorted(cls.model_fields))
            raise InputError(f"Generator {generator!r} cannot be created: {wrong}. Options: {known}.") from None
