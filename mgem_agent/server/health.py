"""`GET /health` and `GET /v1/models`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mgem_agent import __version__
from mgem_agent.server.generators import PREFIX
from mgem_agent.server.http_errors import NotFoundError
from mgem_agent.server.service import AGENT_MODEL, AgentService

__all__ = ["health_router"]

CREATED = 1_700_000_000
"""Time of creation of every model: clients require one, and nothing depends on it."""


def health_router(service: AgentService) -> APIRouter:
    """Return the routes that describe the server.

    Args:
        service: The parts of the server.
    """
    router = APIRouter()

    @router.get("/health")
    async def health() -> JSONResponse:
        jobs = service.jobs
        status = "stopping" if jobs.is_draining else "ok"
        body = {"status": status, "version": __version__, "running": jobs.num_running, "waiting": jobs.num_waiting}
        return JSONResponse(body, 503 if jobs.is_draining else 200)

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": _models(service)}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        found = next((each for each in _models(service) if each["id"] == name), None)
        if found is None:
            known = ", ".join(repr(each["id"]) for each in _models(service))
            raise NotFoundError(f"There is no model {name[:200]!r}. Available: {known}.", param="model")
        return found

    return router


def _models(service: AgentService) -> list[dict[str, Any]]:
    """Return the agent, the reasoner alone, and the image generators, in OpenAI's form."""
    kinds = {AGENT_MODEL: "agent", service.reasoner_name: "reasoner"}
    for name in service.generators.names:
        kinds[f"{PREFIX}{name}" if name in kinds else name] = "generator"
    outputs = {"agent": ["text", "image"], "reasoner": ["text"], "generator": ["image"]}
    return [
        {
            "id": name,
            "object": "model",
            "created": CREATED,
            "owned_by": "mgem-agent",
            "kind": kind,
            "architecture": {
                "input_modalities": ["text"] if kind == "generator" else ["text", "image"],
                "output_modalities": outputs[kind],
            },
        }
        for name, kind in kinds.items()
    ]
