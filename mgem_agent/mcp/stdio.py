"""Serve MCP over stdin and stdout. Stdout is the protocol's: whatever else is printed goes to stderr."""

from __future__ import annotations

import contextlib
import sys

import anyio
from mcp.server.stdio import stdio_server

from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.server import make_server

__all__ = ["serve_stdio"]


def serve_stdio(parts: McpParts) -> None:
    """Serve one client until it closes stdin.

    Args:
        parts: The parts of the server.
    """
    anyio.run(_serve, parts)


async def _serve(parts: McpParts) -> None:
    server = make_server(parts)
    # The SDK moves the file descriptor, so that libraries in C and child processes cannot write to the client either.
    # Python's own stream has a buffer, which would be written to the client at the end.
    async with stdio_server() as (incoming, outgoing):
        with contextlib.redirect_stdout(sys.stderr):
            await server.run(incoming, outgoing, server.create_initialization_options())
