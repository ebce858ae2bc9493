"""What a training run is: the model's parts, what of them is trained, the data, and how the optimizer goes.

A configuration is a frozen pydantic object, read from YAML by `config_file`. Derived values (the batch of one process,
whether the language model is trained) are properties, so that overriding what they follow from moves them too. Modules
never see this object whole: `program` hands each the values that it needs.
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
    "Precision",
    "RunConfig",
    "SourceConfig",
    "TrainConfig",
    "TrainedParts",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "bf16", "fp32"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelConfig(_Section):
    """Where the model comes from: a whole checkpoint, or three parts to be put together.

    Args:
        checkpoint: Folder or hub id of a whole Mini-Gemini; then the three parts are not given. Or what `mgem train
            export --small` made, or `nano`: then `text` is the language model that it lacks, nano's if it is not given,
            and an adapter of the same rank goes on from that one's.
        vision: Folder or hub id of a CLIP vision model.
        high_res_vision: Folder or hub id of an open_clip model with a ConvNeXt.
        text: Folder or hub id of a causal language model, a `.gguf` file, or `nano` for the one that nano has.
        start_from: A finished run whose trained weights (mining, projector, adapter, ...) are put over the model's own;
            or several, one over the other.
        prompt_template: Dialogue format of the finished model; if not given, that of the checkpoint, or `vicuna_v1`.
        high_res_image_size: Side of the high-resolution image, in pixels.
        image_grid: Crops per side of the low-resolution image; 2 in the HD models.
        image_global: Whether the whole picture is seen besides its crops.
        attention: transformers' `attn_implementation` for the language model; its own choice if None.
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

    @model_validator(mode="after")
    def _check_sources(self) -> ModelConfig:
        parts = {name: getattr(self, name) for name in ("vision", "high_res_vision", "text")}
        missing = [name for name, value in parts.items() if value is None]
        if self.checkpoint is None and missing:
            raise ValueError(f"has neither a checkpoint nor all its parts; give model.{missing[0]} or model.checkpoint")
        if self.checkpoint is not None and (self.vision is not None or self.high_res_vision is not None):
            raise ValueError("has both a checkpoint and parts; give one or the other")
        return self


class LoraOptions(_Section):
    """Low-rank adapters of the language model, by peft.

    Args:
        rank: Rank r of the adapters.
        alpha: Their scale is alpha / r.
        dropout: Dropout of their input.
        targets: Names of the linear layers that get one.
    """

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainedParts(_Section):
    """What is trained; everything else is kept as it is, and no gradient of it is computed.

    Args:
        mining: Patch info mining.
        projector: The projector.
        llm: The language model: `frozen`, `full`, or by low-rank adapters (`lora`).
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
    """One file of records.

    Args:
        path: A `.json` list or `.jsonl` lines of records in LLaVA's format.
        images: Folder that the records' pictures are relative to; that of the file if not given.
        repeat: How often the file is gone through in an epoch; 0.5 takes another random half in each epoch.
    """

    path: str
    images: str | None = None
    repeat: Annotated[float, Field(gt=0)] = 1.0


class DataConfig(_Section):
    """The records and how they become batches.

    Args:
        sources: Files of records.
        prompt_template: Dialogue format of this stage's data; `plain` keeps captions alone. That of the model if None.
        image_aspect_ratio: `pad` puts pictures on a square; `square` crops them, as the authors' first stage does.
        max_length: Most tokens of a record, visual ones included.
        on_broken: Whether a record that cannot be used ends the run or is counted, noted and replaced by the next.
        on_too_long: Whether a record of too many tokens is cut at its end, or counts as broken.
        group_by_length: Whether batches are of records of like length and kind, with images or without.
        num_workers: Processes that read records ahead; 0 reads in the training process.
    """

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    prompt_template: str | None = None
    image_aspect_ratio: Literal["pad", "square"] = "pad"
    max_length: Positive = 2048
    on_broken: Literal["error", "skip"] = "error"
    on_too_long: Literal["cut", "broken"] = "broken"
    group_by_length: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 0


class EvaluationConfig(_Section):
    """The loss on held-out records.

    Args:
        sources: Files of records that are not trained on.
        every: Steps between two evaluations; one is made at the end, too.
        max_records: Most records to look at, evenly spread over the files; all if None.
    """

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    every: Positive = 500
    max_records: Positive | None = None


class OptimizerConfig(_Section):
    """AdamW, warm-up and cosine.

    Args:
        learning_rate: Its peak.
        multipliers: Factors on the learning rate of the parameters whose name holds the key.
        weight_decay: Decay of matrices; biases and norms are spared.
        betas: AdamW's two decay rates.
        eps: AdamW's epsilon.
        warmup_ratio: Part of the steps in which the learning rate rises.
        final_ratio: What is left of the learning rate at the end.
        max_grad_norm: Norm to which the gradient is clipped; not clipped if None.
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
    """How long, how big, where, and what is kept.

    Args:
        output: Folder of the run: log, checkpoints and result.
        epochs: Times that the data are gone through.
        max_steps: Ends the run after so many steps, and is what the cosine falls over.
        global_batch: Records of one step, over all processes.
        micro_batch: Records that one process takes at once; the rest of a step is accumulated.
        precision: `bf16`, `fp32`, or what the machine is best at.
        gradient_checkpointing: Whether activations of the language model are computed again rather than kept.
        seed: Seed of the order of the data, of new weights and of dropout.
        log_every: Steps between two lines of the log.
        checkpoint_every: Steps between two checkpoints; one is made at the end and on a signal, too.
        keep_checkpoints: Newest checkpoints to keep.
        save: At the end, `model` writes a folder for `from_pretrained`, `trained` only what was trained. A model with
            adapters is always written in the second way; `mgem train export` merges it.
    """

    output: str
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    global_batch: Positive
    micro_batch: Positive
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0
    log_every: Positive = 10
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 1
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
        model: Where the model comes from.
        train: What of it is trained.
        data: The records.
        optimizer: AdamW and its learning rate.
        run: Lengths, sizes and places.
        evaluation: The loss on held-out records, if wanted.
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
        if self.stage == "align" and self.train.llm != "frozen":
            raise ValueError(f"is of the stage 'align' with train.llm={self.train.llm!r}; align keeps it 'frozen'")
        if not (self.train.llm != "frozen" or any(self.trained_modules)):
            raise ValueError("trains nothing; set train.mining, train.projector or train.llm")
        return self

    @property
    def trained_modules(self) -> tuple[str, ...]:
        """Attributes of the model's trunk that are trained whole."""
        wanted = {
            "mining": self.train.mining,
            "multi_modal_projector": self.train.projector,
            "vision_tower": self.train.vision_tower,
            "high_res_vision_tower": self.train.high_res_vision_tower,
            "language_model": self.train.llm == "full",
        }
        return tuple(name for name, is_trained in wanted.items() if is_trained)

    def accumulation(self, num_processes: int) -> int:
        """Return how many micro-batches of one process make a step.

        Args:
            num_processes: Processes that train together.

        Raises:
            ValueError: If the global batch cannot be shared out evenly.
        """
        share, rest = divmod(self.run.global_batch, self.run.micro_batch * num_processes)
        if rest:
            raise ValueError(
                f"run.global_batch={self.run.global_batch} is no multiple of run.micro_batch={self.run.micro_batch} "
                f"times {num_processes} processes. Set run.micro_batch so that it is."
            )
        return share

    def what_matters(self) -> dict[str, Any]:
        """Return the settings on which the result depends, which a resumed run must not change."""
        settings = self.model_dump(mode="json", exclude={"evaluation": True})
        for name in ("output", "log_every", "checkpoint_every", "keep_checkpoints", "save", "micro_batch"):
            settings["run"].pop(name)
        settings["data"].pop("num_workers")
        return settings
