"""The server on Ray: `mgem serve --ray`, and the application for Serve's own command.

serve run mgem_agent.cli.serve_ray:app reasoner=2 generator=1-4 gpus=1
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgem_agent.cli.batches import seen_by_workers
from mgem_agent.cli.factories import open_named_generator, open_reasoner, prepare_reasoner
from mgem_agent.cli.printing import open_console
from mgem_agent.cli.server_parts import open_service
from mgem_agent.errors import InputError, ToolError
from mgem_agent.extras import EXTRAS, require_packages

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mgem_agent.scale.serve_app import ServePlan
    from mgem_agent.settings import Settings

__all__ = ["app", "run_on_ray"]


def app(arguments: dict[str, str]) -> Any:
    """Return the application, for `serve run`; the settings are those of `mgem serve`.

    Args:
        arguments: `gateway`, `reasoner`, `generator`: numbers of replicas; `gpus`: GPUs of each; `generators`: names
            that clients may use, separated by spaces.

    Raises:
        InputError: If an argument or a setting is not valid.
    """
    from mgem_agent.scale.serve_app import ServePlan
    from mgem_agent.settings import load_settings

    settings = load_settings()
    counts = ",".join(f"{name}={arguments[name]}" for name in ("gateway", "reasoner", "generator") if name in arguments)
    try:
        gpus = float(arguments.get("gpus", 0))
    except ValueError as error:
        raise InputError(f"gpus={arguments['gpus']!r} is not a number. Give 1, or 0.5.") from error
    plan = ServePlan.parse(counts, gpus)
    return _application(settings, arguments.get("generators", settings.generator).split(), plan)


def run_on_ray(settings: Settings, names: Sequence[str], address: str, replicas: str | None, gpus: float) -> None:
    """Serve on Ray until SIGTERM or Ctrl-C.

    Args:
        settings: All settings.
        names: Names of the generators that clients may use.
        address: Address of the cluster, or `local`.
        replicas: Replicas by deployment, as `ServePlan.parse` reads them.
        gpus: GPUs of each replica of a model.

    Raises:
        InputError: If a setting is not valid.
        MissingDependencyError: If the extra `ray` is not installed.
        ToolError: If the cluster cannot be reached, or a deployment does not start.
    """
    require_packages("'mgem serve --ray'", *EXTRAS["ray"])
    from mgem_agent.scale.ray_cluster import LOCAL, RayOptions, connected
    from mgem_agent.scale.serve_app import APP_NAME, ServePlan

    server = settings.server
    if server.port == 0:
        raise InputError("A server on Ray needs a port. Choose one with --port.")
    plan = ServePlan.parse(replicas, gpus)
    parts = (plan.gateway, plan.reasoner, *[plan.generator] * len(names))
    # A cluster of this machine is made large enough; another one may grow.
    num_replicas = sum(part.max if address == LOCAL else part.min for part in parts)
    options = RayOptions(address, num_workers=num_replicas)
    console = open_console()
    with open_console(stderr=True).status("Starting"), connected(options):
        from ray import serve  # pyright: ignore[reportMissingImports]

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": server.host, "port": server.port}, logging_config={"log_level": "WARNING"})
        try:
            try:
                serve.run(_application(settings, names, plan), name=APP_NAME)
            except RuntimeError as error:
                raise ToolError(f"The server did not start on Ray: {error}. See its logs: serve status") from error
            host = f"[{server.host}]" if ":" in server.host else server.host
            console.print(
                f"Serving at http://{host}:{server.port} on Ray (model: {settings.model}, generator: "
                f"{', '.join(names)})",
                soft_wrap=True,
                markup=False,
            )
            _wait()
        finally:
            serve.shutdown()


def _application(settings: Settings, names: Sequence[str], plan: ServePlan) -> Any:
    """Return the application.

    Raises:
        InputError: If the server is reached from other machines without a token that all gateways know.
    """
    from mgem_agent.scale.serve_app import ServeParts, serve_application
    from mgem_agent.server.security import open_access

    if open_access(settings.server).made_token is not None:
        raise InputError(
            f"A server on Ray at {settings.server.host!r} needs a token that all its replicas know. Set "
            "MGEM_SERVER_TOKEN on each machine of the cluster, or the setting server.token_file."
        )
    settings = seen_by_workers(settings, on_ray=True)
    prepare_reasoner(settings, open_reasoner(settings))
    return serve_application(settings, names, ServeParts(open_service, _reasoner, open_named_generator), plan)


def _reasoner(settings: Settings) -> BaseChatModel:
    model = open_reasoner(settings)
    prepare_reasoner(settings, model)
    return model


def _wait() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(3600):
        pass
