"""Opening records by the kind of their path; a training on shards or an index is the training on the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file

from mgem_agent.core_model import MiniGeminiProcessor
from mgem_agent.errors import InputError, StorageError
from mgem_agent.recipes.data.shards.pack import index_folder, pack_records
from mgem_agent.recipes.data.shards.tar_shards import ShardedRecords
from mgem_agent.recipes.train.batch_plan import BatchPlan
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.dry_run import estimate_run
from mgem_agent.recipes.train.examples import Examples
from mgem_agent.recipes.train.program import train
from mgem_agent.recipes.train.record_sources import open_records
from mgem_agent.recipes.train.records import RecordFile
from mgem_agent.recipes.train.run_log import read_log
from mgem_agent.recipes.train.step_batches import StepBatches

MakeRun = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def shards(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve records in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    pack_records(data_file, str(folder), shard_records=5)
    return folder


@pytest.fixture(scope="module")
def processor(model_folder: Path) -> MiniGeminiProcessor:
    return MiniGeminiProcessor.from_pretrained(model_folder)


def make_examples(processor: MiniGeminiProcessor, *paths: Path, **changes: Any) -> Examples:
    options: dict[str, Any] = {
        "prompt_template": "chatml",
        "image_aspect_ratio": "pad",
        "max_length": 256,
        "on_broken": "error",
        "on_too_long": "broken",
        **changes,
    }
    return Examples([open_records(str(path)) for path in paths], processor, **options)


def make_plan(examples: Examples) -> BatchPlan:
    return BatchPlan(*examples.sizes(), [1.0] * len(examples.files), global_batch=4, seed=3)


def same(run: TrainConfig, other: TrainConfig) -> bool:
    weights, others = (load_file(Path(one.run.output) / "trained.safetensors") for one in (run, other))
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_path_is_opened_by_its_kind(data_file: Path, shards: Path, tmp_path: Path) -> None:
    assert isinstance(open_records(str(data_file)), RecordFile)
    assert isinstance(open_records(str(shards)), ShardedRecords)
    with pytest.raises(InputError, match=r"are a file at an address\. Copy it to this machine, and pack it"):
        open_records("s3://bucket/records.jsonl")
    parquet.write_table(pa.table({"conversations": ["[]"]}), tmp_path / "a.parquet")
    for path in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match="are Parquet, .* Pack them first: mgem data pack"):
            open_records(str(path))


def test_shards_give_the_batches_of_the_file(processor: MiniGeminiProcessor, data_file: Path, shards: Path) -> None:
    from_file, from_shards = make_examples(processor, data_file, data_file), make_examples(processor, shards, data_file)
    for one, other in zip(from_file.sizes(), from_shards.sizes(), strict=True):
        assert np.array_equal(one, other)
    for positions in ([3, 11, 8], [20, 0, 13, 4]):
        wanted, found = from_file.batch(positions), from_shards.batch(positions)
        assert wanted.inputs.keys() == found.inputs.keys()
        assert all(torch.equal(value, found.inputs[name]) for name, value in wanted.inputs.items())
        assert (wanted.num_targets, wanted.num_tokens) == (found.num_targets, found.num_tokens)


def test_nothing_is_read_before_the_first_step(
    processor: MiniGeminiProcessor, data_file: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed = tmp_path / "records.jsonl"
    indexed.write_bytes(data_file.read_bytes())
    index_folder(str(indexed))
    wanted = make_examples(processor, data_file).sizes()
    for kind in (RecordFile, ShardedRecords):
        monkeypatch.setattr(kind, "read", lambda self, positions: pytest.fail("a record was read"))
    monkeypatch.setattr(RecordFile, "_read", lambda self: pytest.fail("the file was scanned"))
    for path in (shards, indexed):
        found = make_examples(processor, path, check_first=False).sizes()
        assert all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))
    make_examples(processor, shards).sizes()  # packing checked them
    with pytest.raises(pytest.fail.Exception, match="a record was read"):
        make_examples(processor, indexed).sizes()


def test_an_index_of_an_earlier_file_is_refused(data_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_bytes(data_file.read_bytes())
    index_folder(str(file))
    assert len(RecordFile(file)) == 12
    file.write_bytes(data_file.read_bytes() * 2)
    with pytest.raises(InputError, match=r"when they were indexed\. Index them again: mgem data index .*records.jsonl"):
        RecordFile(file)
    index_folder(str(file))
    assert len(RecordFile(file)) == 24


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on one core
def test_ranks_share_the_same_order_and_any_step_can_be_the_first(
    processor: MiniGeminiProcessor, data_file: Path, shards: Path, num_workers: int
) -> None:
    examples = make_examples(processor, shards, data_file)
    plan = make_plan(examples)

    def rows(process: int, num_processes: int, first: int) -> list[set[str]]:
        batches = StepBatches(examples, plan, process=process, num_processes=num_processes, micro_batch=1)
        return [
            {str(batch.inputs["input_ids"].tolist()) for batch in step}
            for step in batches.loader(first, 9, num_workers)
        ]

    alone = rows(0, 1, 0)
    assert [one | other for one, other in zip(rows(0, 2, 0), rows(1, 2, 0), strict=True)] == alone
    assert rows(0, 1, 7) == alone[7:]  # the second epoch, in the middle


def test_a_run_on_shards_is_the_run_on_the_file(
    make_run: MakeRun, data_file: Path, shards: Path, tmp_path: Path
) -> None:
    runs = []
    for name, path in (("file", data_file), ("shards", shards)):
        runs.append(make_run(run__output=str(tmp_path / name), data__sources=[{"path": str(path)}]))
        train(runs[-1])
    assert same(*runs)
    cut = make_run(run__output=str(tmp_path / "cut"), data__sources=[{"path": str(shards)}])

    class Interruption(Exception):
        pass

    def stop(message: str) -> None:
        if message.startswith("step 3/"):
            raise Interruption

    with pytest.raises(Interruption):
        train(cut, report=stop)
    train(cut)
    assert same(cut, runs[0])


@pytest.mark.slow
def test_two_processes_learn_from_shards_as_one(
    launch: Callable[..., str], make_run: MakeRun, data_file: Path, shards: Path, tmp_path: Path
) -> None:
    one = make_run(
        run__output=str(tmp_path / "one"), data__sources=[{"path": str(data_file)}], train__lora__dropout=0.0
    )
    two = make_run(
        run__output=str(tmp_path / "two"),
        data__sources=[{"path": str(shards)}],
        train__lora__dropout=0.0,
        run__micro_batch=1,
    )
    train(one)
    launch("ddp", two)
    losses = [[line["loss"] for line in read_log(Path(run.run.output)) if "loss" in line] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_storage_that_fails_is_no_broken_record(
    processor: MiniGeminiProcessor, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = make_examples(processor, shards, on_broken="skip")

    def fail(self: Any, positions: Any) -> Any:
        raise StorageError("the network is gone")

    monkeypatch.setattr(ShardedRecords, "read", fail)
    with pytest.raises(StorageError, match="the network is gone"):
        examples.batch([0])
    with pytest.raises(StorageError, match="the network is gone"):
        examples.inspect(0)


def test_the_dry_run_takes_shards(make_run: MakeRun, shards: Path) -> None:
    estimate = estimate_run(make_run(data__sources=[{"path": str(shards)}], data__check_first=False), num_processes=1)
    assert estimate.missing == () and estimate.data is not None and estimate.data.num_records == 12
    gone = estimate_run(make_run(data__sources=[{"path": "memory://gone/shards"}]), num_processes=1)
    assert gone.missing == ("memory://gone/shards",)


def test_broken_records_of_shards_are_replaced_as_those_of_files(
    processor: MiniGeminiProcessor, data_file: Path, tmp_path: Path
) -> None:
    """A picture that is stored, but cannot be decoded."""
    (data_file.parent / "undecodable.png").write_bytes(b"no picture")
    record = json.loads(data_file.read_text().splitlines()[0]) | {"image": "undecodable.png"}
    file = data_file.parent / "some.jsonl"
    file.write_text(json.dumps(record) + "\n" + data_file.read_text())
    pack_records(file, str(tmp_path / "some"))
    for step in range(3):
        wanted, found = (
            make_examples(processor, path, on_broken="skip").batch([0, 1], step) for path in (file, tmp_path / "some")
        )
        assert [broken.reason for broken in found.broken] == ["unreadable picture"]
        assert torch.equal(wanted.inputs["input_ids"], found.inputs["input_ids"])
