"""One start of a training's data, measured: the program of each process of `mgem bench data`.

python -m mgem_agent.recipes.bench.data_start index FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiProcessor
from mgem_agent.recipes.bench.data import Start
from mgem_agent.recipes.bench.sizes import bench_config
from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.examples import Examples
from mgem_agent.recipes.train.record_sources import open_records
from mgem_agent.recipes.train.step_batches import StepBatches

__all__ = ["first_batch", "main"]

_GLOBAL_BATCH, _MICRO_BATCH = 256, 16


def first_batch(path: Path, *, check_first: bool) -> int:
    """Open records, plan the order of an epoch, and make the first micro-batches; return their tokens.

    Args:
        path: A file of records or a folder of shards.
        check_first: Whether to check every record.
    """
    examples = Examples(
        [open_records(str(path))],
        _processor(),
        prompt_template="chatml",
        image_aspect_ratio="pad",
        max_length=4096,
        on_broken="error",
        on_too_long="cut",
        check_first=check_first,
    )
    plan = BatchPlan(*examples.sizes(), [1.0], global_batch=_GLOBAL_BATCH, seed=0)
    share = _GLOBAL_BATCH // _MICRO_BATCH  # of one of as many processes: one micro-batch
    batches = StepBatches(examples, plan, process=0, num_processes=share, micro_batch=_MICRO_BATCH)
    return sum(batch.num_tokens for batch in batches[0])


def _processor() -> MiniGeminiProcessor:
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "</s>": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", eos_token="</s>", pad_token="</s>")
    return MiniGeminiProcessor.from_model_config(bench_config(small=True), wrapped)


def main(way: Start, path: Path) -> None:
    """Measure one start and print it as JSON."""
    before, begin, busy = _memory("VmRSS"), time.perf_counter(), time.process_time()
    if way == "load":
        with path.open(encoding="utf-8") as file:
            kept = len(json.load(file))
    else:
        kept = first_batch(path, check_first=way == "check")
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    if not kept:
        raise SystemExit("nothing was read")
    found = {"seconds": seconds, "processor_seconds": busy, "peak_bytes": _memory("VmHWM"), "import_bytes": before}
    print(json.dumps(found))


def _memory(name: str) -> int:
    """Return the memory of this process in bytes: now (VmRSS), or the most so far (VmHWM). Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main(cast(Start, sys.argv[1]), Path(sys.argv[2]))
