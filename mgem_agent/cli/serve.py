"""`mgem serve`: the agent over HTTP, for clients of OpenAI's protocol and for the browser."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.batches import Gpus, Ray
from mgem_agent.cli.printing import open_console
from mgem_agent.cli.turn_options import Draw, Generators, Look, Memory, Model, Store, System
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.server.service import AgentService
    from mgem_agent.settings import Settings

__all__ = ["run_server", "serve"]


def serve(
    model: Model = None,
    generator: Generators = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Any but loopback requires a token.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = None,
    draw: Draw = None,
    look: Look = None,
    memory: Memory = None,
    system: System = None,
    store: Store = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve MCP over streamable HTTP, at /mcp.")] = False,
    ray: Ray = None,
    replicas: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With --ray: replicas of gateway, reasoner and generator, such as reasoner=2,generator=1-4.",
        ),
    ] = None,
    gpus: Gpus = None,
) -> None:
    """Serve the agent over HTTP, with OpenAI's protocol and a page in the browser. Stop it with Ctrl-C or SIGTERM.

    A client sends its requests to http://127.0.0.1:8765/v1, with the model mgem. Off loopback, each request needs a
    token: MGEM_SERVER_TOKEN, or one that is printed once. Further settings: mgem config show, the table server.
    """
    from mgem_agent.extras import EXTRAS, require_packages

    require_packages("'mgem serve'", *EXTRAS["serve"])
    if mcp:
        require_packages("'mgem serve --mcp'", *EXTRAS["mcp"])
    from mgem_agent.settings import load_settings

    if ray is None and (replicas is not None or gpus is not None):
        raise InputError("--replicas and --gpus apply only to a server on Ray. Add --ray local, or an address.")
    if ray is not None and mcp:
        raise InputError("--mcp does not run on Ray. Leave out one of the two.")
    settings = load_settings(
        model=model,
        generator=generator[0] if generator else None,
        draw=draw,
        look=look,
        memory_policy=memory,
        system_prompt=system,
        store=store,
        server={"host": host, "port": port},
    )
    if ray is not None:
        from mgem_agent.cli.serve_ray import run_on_ray

        run_on_ray(settings, generator or [settings.generator], ray, replicas, gpus or 0.0)
    else:
        run_server(settings, generator or [], mcp=mcp)


def run_server(settings: Settings, generators: list[str], *, mcp: bool = False, **parts: Any) -> None:
    """Run a server until it is told to stop.

    Args:
        settings: All settings.
        generators: Names of the generators that clients may use; the configured one if empty.
        mcp: Whether MCP is served, too.
        **parts: `reasoner`, `make_generator`, `store` or `sessions` to use instead of those that the settings name.

    Raises:
        InputError: If a setting is not valid, or the address cannot be used.
    """
    from mgem_agent.cli.mcp_mount import mcp_mount
    from mgem_agent.cli.server_parts import open_service
    from mgem_agent.server.serving import serve as run

    console = open_console()
    with open_console(stderr=True).status("Starting"):
        service = open_service(settings, generators, **parts)
        mounts = [mcp_mount(service)] if mcp else []

    def tell(address: str) -> None:
        access = service.access
        if access.made_token is not None:
            console.print(f"Token, shown only once: {access.made_token}", markup=False, soft_wrap=True)
        drawn = ", ".join(service.generators.names)
        console.print(f"Serving at {address} (model: {settings.model}, generator: {drawn})", soft_wrap=True)
        if not access.needs_token:
            found.enter_context(_advertised(address, settings, service))

    with ExitStack() as found:
        found.callback(lambda: service.sessions(_local_user()).close())
        run(service, tell, mounts=mounts)


def _advertised(address: str, settings: Settings, service: AgentService) -> AbstractContextManager[None]:
    """Let commands of the same user use the models that run in this server."""
    from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
    from mgem_agent.resident.running_server import advertised, model_key
    from mgem_agent.tools.diffusers.generator import DiffusersGenerator

    is_here = isinstance(service.reasoner, ChatMiniGemini) and service.reasoner.runs_here
    generators = {
        model_key("generator", name, settings.options_of(name)): name
        for name in service.generators.names
        if isinstance(service.generators.get(name).generator, DiffusersGenerator)
    }
    reasoner = model_key("reasoner", settings.model, settings.model_options) if is_here else None
    return advertised(address, reasoner=reasoner, generators=generators)


def _local_user() -> Any:
    from mgem_agent.server.security import LOCAL_USER

    return LOCAL_USER
