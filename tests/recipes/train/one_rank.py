"""The program of one rank, run by a fork server in a process of its own.

It does what `accelerate launch` does for a rank: it sets the environment that a configuration of accelerate stands for,
and runs the training. The caller gives the global `SPEC`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main(spec: dict[str, Any]) -> None:
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.update(spec["env"])
    import torch

    torch.set_num_threads(1)
    if spec["env"].get("ACCELERATE_USE_FSDP") == "true":
        shard_on_cpu()
    if spec["env"].get("ACCELERATE_USE_DEEPSPEED") == "true":
        # It would spend minutes on compiling a faster all-reduce.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
    from mgem_agent.recipes.train.__main__ import main as train

    watch_steps(spec["die_at"], spec["counts_gradients"])
    status = train([spec["config"]])
    sys.stdout.flush()
    os._exit(status)


def shard_on_cpu() -> None:
    """Let accelerate use FSDP without a GPU: it ignores FSDP for the CPU, which torch supports."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU


def watch_steps(die_at: int | None, counts_gradients: bool) -> None:
    """Kill this process when a step begins, as a machine that fails would; or count gradients when a step is made."""
    from mgem_agent.recipes.train.training_loop import TrainingLoop

    make_step: Any = TrainingLoop._make_step  # pyright: ignore[reportPrivateUsage]

    def watched(loop: TrainingLoop, *args: Any) -> Any:
        if loop.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        made = make_step(loop, *args)
        if counts_gradients:
            kept = sum(parameter.grad is not None for parameter in loop.module.parameters())
            print("parameters with a gradient after a step:", kept, flush=True)
        return made

    TrainingLoop._make_step = watched  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]


sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
main(globals()["SPEC"])
