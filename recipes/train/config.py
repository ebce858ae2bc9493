"""The configuration of a training run: model, trained parts, data, optimizer and run.

A configuration is a frozen pydantic object that `config_file` reads from YAML. Derived values are properties, so they
follow an override. Only `program` sees the whole object; it passes each module the values that it needs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "LoraOptions",
    "ModelConfig",
    "OptimizerConfig",
    "Positive",
    "Precision",
    "RunConfig",
    "SourceConfig",
    "TrainConfig",
    "TrainedParts",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "bf16", "tf32", "fp32"]


_WITHOUT_EFFECT = (
    "output", "log_every", "checkpoint_every", "keep_checkpoints", "trackers", "save", "micro_batch", "compile"
)  # fmt: skip
"""Settings of a run that do not change its result."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelConfig(_Section):
    """Source of the model: a whole checkpoint, or three parts to combine.

    Args:
        checkpoint: Folder or hub id of a whole Mini-Gemini, in place of the three parts. Or a folder from `mgem train
            export --small`, or `nano`: these lack a language model, which `text` names (default: nano's). An adapter of
            the same rank continues from theirs.
        vision: Folder or hub id of a CLIP vision model.
        high_res_vision: Folder or hub id of an open_clip model with a ConvNeXt; null for a model without high
            resolution and mining, like the paper's baselines.
        text: Folder or hub id of a causal language model, a `.gguf` file, or `nano` for nano's.
        start_from: A finished run whose trained weights (mining, projector, adapter, …) replace the model's own; or
            several, applied in order.
        prompt_template: Dialogue format of the finished model; default: the checkpoint's, or `vicuna_v1`.
        high_res_image_size: Side of the high-resolution image, in pixels.
        image_grid: Crops per side of the low-resolution image; 2 in the HD models.
        image_global: Whether the whole picture is encoded in addition to its crops.
        attention: transformers' `attn_implementation` for the language model; None lets transformers choose.
        quantize: Bits of the language model's frozen weights, by bitsandbytes: 4 with an adapter is QLoRA
            (arXiv:2305.14314). Only for a whole checkpoint.
    """

    checkpoint: str | None = None
    vision: str | None = None
    high_res_vision: str | None = None
    text: str | None = None
    start_from: str | tuple[str, ...] | None = None
    prompt_template: str | None = None
    high_res_image_size: Positive = 768
    image_grid: Positive = 1
    image_global: bool = False
    attention: str | None = None
    quantize: Literal[4, 8] | None = None

    @model_validator(mode="after")
    def _check_sources(self) -> ModelConfig:
        parts = {name: getattr(self, name) for name in ("vision", "text")}
        if "high_res_vision" not in self.model_fields_set:  # null has to be said
            parts["high_res_vision"] = None
        missing = [name for name, value in parts.items() if value is None]
        if self.checkpoint is None and missing:
            raise ValueError(f"has neither a checkpoint nor all its parts; give model.{missing[0]} or model.checkpoint")
        if self.checkpoint is not None and (self.vision is not None or self.high_res_vision is not None):
            raise ValueError("has both a checkpoint and parts; give one or the other")
        if self.quantize is not None and (self.checkpoint is None or self.text is not None):
            raise ValueError("has model.quantize, which needs a whole checkpoint; export the earlier run first")
        return self

    @property
    def has_high_res(self) -> bool:
        """Whether the model has high resolution; true for a checkpoint, whose own configuration says it."""
        return self.checkpoint is not None or self.high_res_vision is not None


class LoraOptions(_Section):
    """Low-rank adapters of the language model (peft).

    Args:
        rank: Rank r of the adapters.
        alpha: Scale of the adapters, times r.
        dropout: Dropout on their input.
        targets: Names of the linear layers that get an adapter.
    """

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainedParts(_Section):
    """The trained parts; everything else is frozen and gets no gradient.

    Args:
        mining: Patch info mining.
        projector: The projector.
        llm: The language model: `frozen`, `full`, or with low-rank adapters (`lora`).
        vision_tower: The low-resolution encoder.
        high_res_vision_tower: The high-resolution encoder.
        lora: Options of the adapters.
    """

    mining: bool = True
    projector: bool = True
    llm: Literal["frozen", "full", "lora"] = "frozen"
    vision_tower: bool = False
    high_res_vision_tower: bool = False
    lora: LoraOptions = LoraOptions()


class SourceConfig(_Section):
    """One file of records, or one folder of shards.

    Args:
        path: A `.json` list or `.jsonl` lines of records in LLaVA's format, or a folder of shards or its address.
        images: Folder of the pictures of a file; default: the folder of the file. Shards hold their pictures.
        repeat: Passes over the records in an epoch; 0.5 takes a different random half in each epoch.
    """

    path: str
    images: str | None = None
    repeat: Annotated[float, Field(gt=0)] = 1.0


class DataConfig(_Section):
    """The records, and how they are batched.

    Args:
        sources: Files or shards of records.
        prompt_template: Dialogue format of the data; `plain` is the bare caption. None: the model's.
        image_aspect_ratio: `pad` pads pictures to a square; `square` crops them, like the authors' first stage.
        max_length: Maximum tokens of a record, including visual tokens.
        records: `repaired` makes the marks of the pictures match, and reports it; `faithful` reads records by
            the authors' rules.
        on_broken: `error` stops at a record that cannot be used; `skip` logs it and draws another of the same source.
        check_first: Whether to check the form of every record, and that its pictures exist, before the first step.
        on_too_long: `cut` truncates a record of too many tokens; `broken` treats it as unusable.
        packing: Whether the records of a micro-batch follow each other in one row, without padding. Attention stays
            within a record, so losses are the same.
        group_by_length: Whether a batch has records of similar length, all with or all without images.
        num_workers: Processes that load records; 0 loads in the training process.
    """

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    prompt_template: str | None = None
    image_aspect_ratio: Literal["pad", "square"] = "pad"
    max_length: Positive = 2048
    records: Literal["repaired", "faithful"] = "repaired"
    on_broken: Literal["error", "skip"] = "error"
    check_first: bool = True
    on_too_long: Literal["cut", "broken"] = "broken"
    packing: bool = False
    group_by_length: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 0


class EvaluationConfig(_Section):
    """The loss on held-out records.

    Args:
        sources: Files of records that are not in the training data.
        every: Steps between evaluations; there is one at the end, too.
        max_records: Maximum number of records, evenly spread over the files; None for all.
        keep_best: Whether the folder `best/` of the run keeps the result of the step with the lowest held-out loss.
    """

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    every: Positive = 500
    max_records: Positive | None = None
    keep_best: bool = False


class OptimizerConfig(_Section):
    """AdamW with linear warm-up and cosine decay.

    Args:
        learning_rate: Peak learning rate.
        multipliers: Factors on the learning rate of parameters whose name contains the key.
        weight_decay: Weight decay of matrices; biases and norms have none.
        betas: AdamW's two decay rates.
        eps: AdamW's epsilon.
        warmup_ratio: Fraction of the steps used for warm-up.
        final_ratio: Final learning rate, as a fraction of the peak.
        max_grad_norm: Maximum norm of the gradient; None for no clipping.
    """

    learning_rate: Annotated[float, Field(gt=0)]
    multipliers: dict[str, float] = {}
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    warmup_ratio: Fraction = 0.03
    final_ratio: Fraction = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0


class RunConfig(_Section):
    """Length, batch, precision and output of the run.

    Args:
        output: Folder of the run: log, checkpoints and result.
        epochs: Passes over the data.
        max_steps: Number of steps, also of the cosine schedule; overrides `epochs`.
        global_batch: Records of one step, over all processes.
        micro_batch: Records of one forward pass of one process; gradients are accumulated up to the global batch.
        precision: `bf16`; `fp32`; `tf32`, which is float32 with faster, less exact matrix products on NVIDIA GPUs; or
            `auto`: bf16 where the hardware has it, otherwise fp32.
        gradient_checkpointing: Whether to recompute the language model's activations, to save memory.
        compile: Whether `torch.compile` compiles the layers of the language model. The first steps take longer.
        seed: Seed of data order, new weights and dropout.
        log_every: Steps between two lines of the log.
        checkpoint_every: Steps between checkpoints; there is one at the end and on a signal, too.
        keep_checkpoints: How many of the newest checkpoints to keep.
        trackers: Experiment trackers of accelerate that get the values of the log, such as `tensorboard`, `wandb` or
            `mlflow`; the package of each must be installed.
        save: What to write at the end: `model`, a folder for `from_pretrained`, or `trained`, only the trained weights.
            With adapters it is always the latter; `mgem train export` merges them.
    """

    output: str
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    global_batch: Positive
    micro_batch: Positive
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: int = 0
    log_every: Positive = 10
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 1
    trackers: tuple[str, ...] = ()
    save: Literal["model", "trained"] = "model"

    @model_validator(mode="after")
    def _check_batch(self) -> RunConfig:
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"has a global_batch of {self.global_batch} that is no multiple of its micro_batch, {self.micro_batch}"
            )
        return self


class TrainConfig(_Section):
    """A whole run.

    Args:
        stage: `align` trains mining and projector; `instruct` the language model too.
        model: Source of the model.
        train: The trained parts.
        data: The records.
        optimizer: AdamW and its learning rate.
        run: Length, batch, precision and output.
        evaluation: Held-out evaluation; None for none.
    """

    stage: Literal["align", "instruct"]
    model: ModelConfig
    train: TrainedParts = TrainedParts()
    data: DataConfig
    optimizer: OptimizerConfig
    run: RunConfig
    evaluation: EvaluationConfig | None = None

    @model_validator(mode="after")
    def _check_stage(self) -> TrainConfig:
        if self.model.quantize is not None and self.train.llm == "full":
            raise ValueError("has model.quantize, but trains all weights of the language model; set train.llm=lora")
        if self.stage == "align" and self.train.llm != "frozen":
            raise ValueError(f"is of the stage 'align' with train.llm={self.train.llm!r}; align keeps it 'frozen'")
        if not (self.train.llm != "frozen" or any(self.trained_modules)):
            raise ValueError("trains nothing; set train.mining, train.projector or train.llm")
        return self

    @property
    def trained_modules(self) -> tuple[str, ...]:
        """Fully trained attributes of the model's trunk."""
        wanted = {
            "mining": self.train.mining and self.model.has_high_res,
            "multi_modal_projector": self.train.projector,
            "vision_tower": self.train.vision_tower,
            "high_res_vision_tower": self.train.high_res_vision_tower and self.model.has_high_res,
            "language_model": self.train.llm == "full",
        }
        return tuple(name for name, is_trained in wanted.items() if is_trained)

    def accumulation(self, num_processes: int) -> int:
        """Return the number of micro-batches that one process accumulates in a step.

        Args:
            num_processes: Number of processes.

        Raises:
            ValueError: If the global batch cannot be divided evenly.
        """
        share, rest = divmod(self.run.global_batch, self.run.micro_batch * num_processes)
        if rest:
            raise ValueError(
                f"run.global_batch={self.run.global_batch} is no multiple of run.micro_batch={self.run.micro_batch} "
                f"times {num_processes} processes. Set run.micro_batch so that it is."
            )
        return share

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that change the result, which must stay the same when a run resumes."""
        settings = self.model_dump(mode="json", exclude={"evaluation": True})
        for name in _WITHOUT_EFFECT:
            settings["run"].pop(name)
        settings["data"].pop("num_workers")
        return settings
