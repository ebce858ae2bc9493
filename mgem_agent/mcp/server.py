"""The MCP server: it translates between the protocol and the tools, and speaks every version that the SDK knows.

Decisions that matter:

- **The SDK's low-level server is used**, because the arguments of the tools are the classes that models of this package
  use: tolerant of their form, with one way of making a request out of them.
- **An error of a tool is a result** with `isError`, so that a model can correct its call. An unknown tool or resource
  is an error of the protocol.
- **A question to a person** is the result of the call in the version of 2026-07-28, and a request of the server in
  earlier ones (`Call.ask`). The SDK seals the state of the former.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    InputRequiredResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from pydantic import ValidationError

from mgem_agent import __version__
from mgem_agent.errors import MgemError
from mgem_agent.mcp.answers import error_result, success_result
from mgem_agent.mcp.call import Call, NeedsInputError
from mgem_agent.mcp.changes import ResourceChanges
from mgem_agent.mcp.parts import McpParts
from mgem_agent.mcp.resources import TEMPLATES, list_resources, read_resource
from mgem_agent.mcp.tools import find_tool, offered_tools
from mgem_agent.tools.tool_arguments import explain_arguments

__all__ = ["NoticingServer", "PartsOf", "make_server"]

PartsOf = Callable[[Any], McpParts]
"""Returns the parts for an HTTP request (one of starlette), which say whose it is; for None without HTTP."""

Context = ServerRequestContext[Any, Any]

NAME = "mgem"
LIST_TTL_MS = 60_000
UNNAMED = ("", "mcp")
"""Names of clients that do not name themselves; the SDK for Python then gives `mcp`."""

INSTRUCTIONS = (
    "Draws, edits and looks at pictures, and tells illustrated stories. Pictures are named by ids (img-…) and books by "
    "their own ids; both stay valid. A result has a small preview and a link to the whole picture: read the resource "
    "only if the pixels are needed."
)

_log = logging.getLogger(__name__)


def make_server(parts: McpParts | PartsOf) -> NoticingServer:
    """Create the server.

    Args:
        parts: Its parts, or a function that returns the parts of the user that an HTTP request comes from.
    """
    handlers = _Handlers(parts)
    server = NoticingServer(
        NAME,
        version=__version__,
        title="mgem-agent",
        description="A vision-language model that draws: pictures, edits and illustrated stories.",
        instructions=INSTRUCTIONS,
        cache_hints={
            "tools/list": CacheHint(ttl_ms=LIST_TTL_MS),
            "resources/templates/list": CacheHint(ttl_ms=LIST_TTL_MS),
        },
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.subscribe,
        on_unsubscribe_resource=handlers.unsubscribe,
        on_subscriptions_listen=handlers.listen,
    )
    server.end_streams = handlers.close
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server


class NoticingServer(Server[Any]):
    """A server that says, also in earlier versions, that it sends notices of changed lists of resources.

    Attributes:
        end_streams: Ends all streams of notices, because the server is being stopped.
    """

    end_streams: Callable[[], None]

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **options: Any
    ) -> Any:
        """Return the options of a connection."""
        wanted = notification_options or NotificationOptions(resources_changed=True)
        return super().create_initialization_options(wanted, *args, **options)


class _Handlers:
    """What the server does with each request."""

    def __init__(self, parts: McpParts | PartsOf) -> None:
        self._parts = parts
        self._changes: dict[tuple[Path, Path], ResourceChanges] = {}

    def parts(self, context: Context) -> McpParts:
        found = self._parts if isinstance(self._parts, McpParts) else self._parts(context.request)
        self.changes(found).note_client(context)
        return found

    def changes(self, parts: McpParts) -> ResourceChanges:
        """Return what watches the pictures and books of a user."""
        key = (parts.store.root, parts.books.root)
        if key not in self._changes:
            self._changes[key] = ResourceChanges(parts.store, parts.books)
        return self._changes[key]

    def close(self) -> None:
        """End all streams of notices."""
        for changes in self._changes.values():
            changes.close()

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        return await self.changes(self.parts(context)).listen(context, params)

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        self.changes(self.parts(context)).add_resource(context, str(params.uri))
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        self.changes(self.parts(context)).remove_resource(context, str(params.uri))
        return EmptyResult()

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        parts = self.parts(context)
        return ListToolsResult(tools=[tool.described(parts) for tool in offered_tools(parts)])

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        parts = self.parts(context)
        tool = find_tool(params.name, parts)
        if tool is None:
            known = ", ".join(each.name for each in offered_tools(parts))
            raise MCPError(INVALID_PARAMS, f"There is no tool {params.name[:80]!r}. Known: {known}.")
        try:
            arguments = tool.arguments.model_validate(params.arguments or {})
            answer = await tool.run(Call(parts, context, params), arguments)
            self.changes(parts).check_soon()
            return success_result(answer, has_links=_gets_links(parts, context))
        except NeedsInputError as needed:
            return needed.result
        except ValidationError as error:
            return error_result(explain_arguments(error))
        except MgemError as error:
            return error_result(str(error))
        except MCPError:
            raise
        except Exception as error:  # a third-party model may raise anything; the client must get an answer
            _log.exception("The tool %s failed", tool.name)
            return error_result(
                f"Unexpected {type(error).__name__} in the tool {tool.name!r}. The server's log (stderr) says more."
            )

    async def list_resources(self, context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        cursor = params.cursor if params is not None else None
        try:
            found, after = await asyncio.to_thread(list_resources, self.parts(context), cursor)
        except MgemError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        return ListResourcesResult(resources=found, next_cursor=after)

    async def list_templates(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=list(TEMPLATES))

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        uri = str(params.uri)
        try:
            found = await asyncio.to_thread(read_resource, uri, self.parts(context))
        except MgemError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"uri": uri}) from error
        return ReadResourceResult(contents=[found.content], ttl_ms=found.ttl_ms)


def _gets_links(parts: McpParts, context: Context) -> bool:
    """Whether results for a client have links to resources."""
    if parts.has_links is not None:
        return parts.has_links
    client = context.session.client_params
    return client is not None and client.client_info.name not in UNNAMED
