"""Training speed: `mgem bench train`.

The same records, model and optimizer are trained in three ways: by this package with packed rows, by this package with
padded rows, and by transformers' `Trainer`. Batches are made before the clock starts, so a step alone is timed; the
input pipeline is measured separately, on one core.

A token is a real one: padding costs time and does not count. Operations are those of `utilisation`, so the share of the
measured peak is a lower bound. Records are synthetic dialogues of very different lengths, as in an instruction mix.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.bench.measure import describe_machine, find_device, require_positive, seconds_of
from mgem_agent.recipes.bench.sizes import LanguageModelName, bench_config, describe_sizes
from mgem_agent.recipes.bench.training_report import PipelineSpeed, TrainingComparison, TrainingRun
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.examples import Batch, Examples
from mgem_agent.recipes.train.precision import matmul_precision, training_dtype
from mgem_agent.recipes.train.records import RecordFile
from mgem_agent.recipes.train.target_loss import TargetLoss
from mgem_agent.recipes.train.utilisation import flops_per_token, measured_peak

__all__ = ["bench_training"]

_LEARNING_RATE = 1e-5
_SHORTEST, _LONGEST = 20, 400
_PICTURE_PX = (640, 480)
_IMAGE_SHARE = 0.5


def bench_training(
    *,
    llm: LanguageModelName = "smollm2-135m",
    small: bool = True,
    hd: bool = False,
    batch: int = 4,
    steps: int = 2,
    records: int = 24,
    precision: Precision = "auto",
    device: str = "cpu",
) -> TrainingComparison:
    """Measure training steps and the input pipeline.

    Args:
        llm: Size of the language model.
        small: Whether to use small encoders and pictures.
        hd: Whether to use the HD sizes.
        batch: Records of a step.
        steps: Timed steps of each way, after one that warms up.
        records: Records that the input pipeline reads.
        precision: The number format, as in a training.
        device: The device.

    Raises:
        InputError: If a number is less than one, or the device is missing.
    """
    require_positive(batch=batch, steps=steps, records=records)
    place, dtype = find_device(device), training_dtype(precision)
    config = bench_config(hd=hd, small=small, llm=llm)
    config.prompt_template = "chatml"
    processor = MiniGeminiProcessor.from_model_config(config, _tokenizer())
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-") as folder, matmul_precision(precision):
        file = _write_records(Path(folder), max(batch * (steps + 1), records))
        padded, packed = (_examples(file, processor, is_packed) for is_packed in (False, True))
        rows = [range(batch * step, batch * (step + 1)) for step in range(steps + 1)]
        model = _model(config, place, dtype)
        start = {name: value.detach().cpu().clone() for name, value in model.named_parameters() if value.requires_grad}
        measured = []
        for label, examples in (("packed", packed), ("padded", padded)):
            batches = [examples.batch(row, step) for step, row in enumerate(rows)]
            measured.append(_timed(label, model, batches, _own_steps(model, batches, place, dtype)))
            model = _restored(model, start)
        batches = [padded.batch(row, step) for step, row in enumerate(rows)]
        seconds, losses = _trainer_steps(model, batches, Path(folder), dtype)
        measured.append(_timed("transformers' Trainer", model, batches, (seconds, losses)))
        return TrainingComparison(
            setting=f"{describe_sizes(config)}, {llm}, {batch} records a step, {_name_of(dtype, precision)}",
            runs=tuple(measured),
            flops_per_token=flops_per_token(model),
            peak_flops=measured_peak(place, dtype),
            bf16_peak_flops=measured_peak(place, torch.bfloat16),
            batch=batch,
            pipeline=_pipeline(padded, records),
            machine=describe_machine(place),
        )


def _name_of(dtype: torch.dtype, precision: Precision) -> str:
    return "tf32" if precision == "tf32" else str(dtype).removeprefix("torch.")


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token a character, so that no file is needed."""
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _write_records(folder: Path, num: int) -> Path:
    """Write dialogues of different lengths, half of them about a picture."""
    rng = random.Random(0)
    Image.effect_noise(_PICTURE_PX, 80).convert("RGB").save(folder / "picture.jpg", quality=90)
    lines = []
    for index in range(num):
        length = round(_SHORTEST * (_LONGEST / _SHORTEST) ** rng.random())
        seen = rng.random() < _IMAGE_SHARE
        question, answer = "What is it? " * 2, "".join(rng.choices("abcdefgh ", k=length))
        record: dict[str, Any] = {"id": str(index), **({"image": "picture.jpg"} if seen else {})}
        record["conversations"] = [
            {"from": "human", "value": ("<image>\n" if seen else "") + question},
            {"from": "gpt", "value": answer.strip() or "a"},
        ]
        lines.append(json.dumps(record) + "\n")
    file = folder / "records.jsonl"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _examples(file: Path, processor: MiniGeminiProcessor, packing: bool) -> Examples:
    return Examples(
        [RecordFile(str(file), None)],
        processor,
        prompt_template="chatml",
        image_aspect_ratio="pad",
        max_length=8192,
        on_broken="error",
        on_too_long="broken",
        packing=packing,
    )


def _model(config: Any, device: torch.device, dtype: torch.dtype) -> MiniGeminiForConditionalGeneration:
    """Return a model as in the second stage: encoders frozen in the run's format, the rest trained in float32."""
    made: Any = MiniGeminiForConditionalGeneration(config)
    model = made.to(device=device, dtype=dtype)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trained: MiniGeminiForConditionalGeneration = model.train()
    return trained


@torch.no_grad()
def _restored(
    model: MiniGeminiForConditionalGeneration, start: dict[str, Tensor]
) -> MiniGeminiForConditionalGeneration:
    """Give a model its first weights again."""
    for name, value in model.named_parameters():
        if name in start:
            value.copy_(start[name])
            value.grad = None
    return model


def _own_steps(
    model: MiniGeminiForConditionalGeneration, batches: Sequence[Batch], device: torch.device, dtype: torch.dtype
) -> tuple[list[float], list[float]]:
    """Return the seconds and losses of steps of this package."""
    loss = TargetLoss(model).train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], _LEARNING_RATE, fused=True)
    seconds, losses = [], []

    def step(batch: Batch) -> Callable[[], None]:
        def run() -> None:
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                value = loss(inputs, torch.tensor(batch.num_targets, device=device))
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(value.detach()))

        return run

    for batch in batches:
        seconds.append(seconds_of(step(batch), device))
    return seconds, losses


class _Clock(TrainerCallback):
    """Times the steps of a `Trainer`."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self._start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the seconds of the step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._start)


def _trainer_steps(
    model: MiniGeminiForConditionalGeneration, batches: Sequence[Batch], folder: Path, dtype: torch.dtype
) -> tuple[list[float], list[float]]:
    """Return the seconds and losses of steps of transformers' `Trainer` with the same padded batches."""
    clock = _Clock()
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=len(batches),
        per_device_train_batch_size=1,
        learning_rate=_LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=0.0,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        bf16=dtype == torch.bfloat16,
        use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_InOrder(batches),
        data_collator=lambda rows: dict(rows[0]),
        callbacks=[clock],
    )
    trainer.log = lambda logs, *args, **kwargs: trainer.state.log_history.append(dict(logs))  # type: ignore[method-assign]
    trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    return clock.seconds, losses


class _InOrder(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    """Batches as a data set that is not shuffled."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Any:
        return iter([batch.inputs for batch in self._batches])


def _timed(
    label: str,
    model: MiniGeminiForConditionalGeneration,
    batches: Sequence[Batch],
    measured: tuple[Sequence[float], Sequence[float]],
) -> TrainingRun:
    """Return a run without its first step, which warms up."""
    seconds, losses = measured
    return TrainingRun(
        label=label,
        seconds=tuple(seconds[1:]),
        tokens=tuple(batch.num_tokens for batch in batches[1:]),
        rows=tuple(batch.inputs["input_ids"].numel() for batch in batches[1:]),
        first_loss=losses[0],
    )


def _pipeline(examples: Examples, num: int) -> PipelineSpeed:
    """Return how many records a second one core makes into tensors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        examples.batch([0])
        start = time.perf_counter()
        for position in range(num):
            examples.batch([position])
        return PipelineSpeed(num_records=num, seconds=time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
