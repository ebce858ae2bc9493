"""The server as an application of Ray Serve: reasoner, generators and gateway are deployments that scale apart.

The gateway is `mgem_agent.server` unchanged: its chat model and its generators ask the deployments. A reasoner on a
server of its own (`openai:…`, an address) is asked by the gateway and has no deployment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from langchain_core.language_models import BaseChatModel

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.errors import InputError
from mgem_agent.scale.served_generator import GeneratorReplica, HandleGenerator
from mgem_agent.scale.served_reasoner import ReasonerReplica, with_handle
from mgem_agent.server.app import create_app
from mgem_agent.server.service import AgentService
from mgem_agent.settings import Settings
from mgem_agent.tools.image_generator import ImageGenerator

__all__ = ["APP_NAME", "Gateway", "Replicas", "ServeParts", "ServePlan", "serve_application"]

APP_NAME = "mgem"
GATEWAY, REASONER, GENERATOR = "gateway", "reasoner", "generator"

_COUNT = re.compile(r"(?P<min>\d+)(?:-(?P<max>\d+))?")
_MOST_REQUESTS = 1_000
"""Requests that a gateway takes at once. It has a queue of its own, with a limit and status 429."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """The number of replicas of a deployment, which Serve keeps within limits by the number of waiting requests.

    Attributes:
        min: Minimum.
        max: Maximum.
    """

    min: int = 1
    max: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2`, or `1-4`.

        Raises:
            InputError: If it is not one.
        """
        found = _COUNT.fullmatch(text.strip())
        if found is None:
            raise InputError(f"{text!r} is not a number of replicas. Allowed: 2, or 1-4 to scale by load.")
        few, most = int(found["min"]), int(found["max"] or found["min"])
        if few < 1 or most < few:
            raise InputError(f"{text!r} is not a number of replicas. Give 1 or more, the smaller first.")
        return cls(few, most)


@dataclass(frozen=True, slots=True)
class ServePlan:
    """How much of each deployment runs.

    Attributes:
        gateway: Replicas of the gateway.
        reasoner: Replicas of the reasoner.
        generator: Replicas of each generator.
        num_gpus: GPUs of each replica of the reasoner and the generators.
    """

    gateway: Replicas = field(default_factory=Replicas)
    reasoner: Replicas = field(default_factory=Replicas)
    generator: Replicas = field(default_factory=Replicas)
    num_gpus: float = 0.0

    @classmethod
    def parse(cls, text: str | None, num_gpus: float = 0.0) -> Self:
        """Read `reasoner=2,generator=1-4`.

        Args:
            text: Replicas by deployment; those that are left out have one. None for one of each.
            num_gpus: As above.

        Raises:
            InputError: If it is not valid.

        Examples:
            >>> ServePlan.parse("generator=1-4").generator
            Replicas(min=1, max=4)
        """
        found: dict[str, Replicas] = {}
        for part in (text or "").split(","):
            name, sign, count = part.strip().partition("=")
            if not part.strip():
                continue
            if name not in (GATEWAY, REASONER, GENERATOR) or not sign:
                raise InputError(
                    f"{part.strip()!r} names no replicas. Allowed: gateway, reasoner and generator, such as "
                    "reasoner=2,generator=1-4"
                )
            found[name] = Replicas.parse(count)
        return cls(**found, num_gpus=num_gpus)


class OpenService(Protocol):
    """Creates the parts of a server."""

    def __call__(self, settings: Settings, generators: list[str] | None = None, **parts: Any) -> AgentService:
        """Return them; `parts` are used instead of those that the settings name."""
        ...


@dataclass(frozen=True)
class ServeParts:
    """Functions that create the parts; they are sent to the replicas.

    Attributes:
        open_service: Creates the server's parts, in a gateway.
        open_reasoner: Creates the chat model.
        open_generator: Creates a generator by its name.
    """

    open_service: OpenService
    open_reasoner: Callable[[Settings], BaseChatModel]
    open_generator: Callable[[Settings, str], ImageGenerator]


class Gateway:
    """A replica of the gateway: the server's application.

    Args:
        settings: All settings.
        parts: Functions that create the parts.
        names: Names of the generators that clients may use.
        generators: Handles of their deployments, by name.
        reasoner: Handle of the reasoner's deployment; None if it is on a server of its own.
    """

    def __init__(
        self,
        settings: Settings,
        parts: ServeParts,
        names: Sequence[str],
        generators: Mapping[str, Any],
        reasoner: Any | None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._names = list(names)
        self._generators = generators
        self._reasoner = reasoner

    def __serve_build_asgi_app__(self) -> Any:
        """Return the application; Serve calls this in the replica."""
        model = self._parts.open_reasoner(self._settings)
        if self._reasoner is not None and isinstance(model, ChatMiniGemini):
            model = with_handle(model, self._reasoner)
        service = self._parts.open_service(
            self._settings,
            self._names,
            reasoner=model,
            make_generator=lambda name: HandleGenerator(name, self._generators[name]),
        )
        return create_app(service)


def serve_application(settings: Settings, names: Sequence[str], parts: ServeParts, plan: ServePlan) -> Any:
    """Return the application for `serve.run`.

    Args:
        settings: All settings.
        names: Names of the generators that clients may use; the first is the default.
        parts: Functions that create the parts.
        plan: How much of each deployment runs.

    Raises:
        InputError: If there is no such reasoner or generator.
    """
    from ray import serve  # pyright: ignore[reportMissingImports]

    server = settings.server
    model = parts.open_reasoner(settings)  # an unknown name is an error now, and not in a replica
    reasoner = None
    if isinstance(model, ChatMiniGemini) and model.runs_here:
        deployed = serve.deployment(
            name=REASONER, max_ongoing_requests=server.reasoner_slots, **_scale(plan.reasoner, plan.num_gpus)
        )(ReasonerReplica)
        reasoner = deployed.bind(_Maker(parts.open_reasoner, settings))
        slots = server.reasoner_slots * plan.reasoner.max  # the replicas have limits of their own
        settings = settings.model_copy(update={"server": server.model_copy(update={"reasoner_slots": slots})})
    generators = {}
    for place, name in enumerate(names):
        parts.open_generator(settings, name)
        deployed = serve.deployment(
            name=GENERATOR if place == 0 else f"{GENERATOR}-{place + 1}",
            max_ongoing_requests=server.workers,
            **_scale(plan.generator, plan.num_gpus),
        )(GeneratorReplica)
        generators[name] = deployed.bind(_Maker(parts.open_generator, settings, name), server.max_batch)
    gateway = serve.deployment(name=GATEWAY, max_ongoing_requests=_MOST_REQUESTS, **_scale(plan.gateway, 0.0))(
        serve.ingress()(Gateway)
    )
    return gateway.bind(settings, parts, list(names), generators, reasoner)


def _scale(replicas: Replicas, num_gpus: float) -> dict[str, Any]:
    """Return the options of a deployment for its replicas."""
    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": 1, "num_gpus": num_gpus}}
    if replicas.min == replicas.max:
        return options | {"num_replicas": replicas.min}
    return options | {"autoscaling_config": {"min_replicas": replicas.min, "max_replicas": replicas.max}}


@dataclass(frozen=True)
class _Maker:
    """Creates a part in a replica."""

    make: Callable[..., Any]
    settings: Settings
    name: str | None = None

    def __call__(self) -> Any:
        return self.make(self.settings) if self.name is None else self.make(self.settings, self.name)
