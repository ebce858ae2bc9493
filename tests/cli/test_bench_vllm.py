"""`mgem bench vllm`: its options."""

from __future__ import annotations

import pytest
import typer

from mgem_agent.cli import bench_vllm
from mgem_agent.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Name the environment of vLLM with --environment, or a server that runs with --url"),
        ({"url": "http://127.0.0.1:9/v1", "make": True}, "--make-environment needs the folder in --environment"),
        ({"url": "http://127.0.0.1:9/v1", "clients": "1,zero"}, "--clients is '1,zero'. Write whole numbers"),
        ({"url": "http://127.0.0.1:9/v1", "clients": "0"}, "--clients is '0'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    given = {"environment": None, "make": False, "url": "", "clients": "1,8,32", **options}
    with pytest.raises(InputError, match=f"^{message}"):
        bench_vllm.vllm(**given)


def test_it_is_a_command() -> None:
    app = typer.Typer()
    app.command("vllm")(bench_vllm.vllm)
    assert app.registered_commands[0].name == "vllm"
