"""Responses that run in the background: asked for later, followed from any event on, or cancelled.

A run belongs to no request. When it has ended, its response is saved, and the run is forgotten. Its events are in the
memory of its server only. Other servers that share the sessions know of it by `SharedRuns`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing, suppress
from typing import Any

from mgem_agent.errors import InputError, MgemError, StorageError
from mgem_agent.server.responses_turn import ResponseTurn
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService
from mgem_agent.server.shared_runs import SharedRuns

__all__ = ["BackgroundRun", "BackgroundRuns"]

ASK_S = 1.0
"""Seconds after which a run looks again whether another server was asked to cancel it."""

ENDED_S = 30.0
"""Seconds that another server has to cancel a run."""

_log = logging.getLogger(__name__)


class BackgroundRun:
    """A response in progress.

    Args:
        turn: Its turn.

    Attributes:
        turn: As above.
    """

    def __init__(self, turn: ResponseTurn) -> None:
        self.turn = turn
        self._events: list[dict[str, Any]] = []
        self._is_over = False
        self._is_cancelled = False
        self._change = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def response(self) -> dict[str, Any]:
        """The response so far."""
        return dict(self.turn.writer.response)

    def begin(self, service: AgentService, user: User, title: str) -> asyncio.Task[None]:
        """Start the run, as a job of the server's queue."""
        self._task = asyncio.create_task(self._run(service, user, title))
        return self._task

    async def cancel(self) -> dict[str, Any]:
        """Stop the run, and return the response. What is drawn is kept."""
        self.begin_to_cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
        return self.response

    def begin_to_cancel(self) -> None:
        """Stop the run soon."""
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self.turn.left_as = "cancelled"
            self._task.cancel()

    async def follow(self, after: int) -> AsyncIterator[dict[str, Any]]:
        """Yield the events so far and then those that come.

        Args:
            after: Number of the last event that the client has; -1 for all.
        """
        place = max(after + 1, 0)
        while True:
            change, is_over = self._change, self._is_over
            while place < len(self._events):
                yield self._events[place]
                place += 1
            if is_over:
                return
            await change.wait()

    async def _run(self, service: AgentService, user: User, title: str) -> None:
        problem: Exception | None = None
        events = service.jobs.stream(user, "response", self.turn.stream, abandon=self.turn.leave, title=title)
        try:
            async with aclosing(events):
                async for event in events:
                    self._add(event)
        except asyncio.CancelledError:
            pass  # by `cancel`, or at the end of the server
        except Exception as error:  # a model or a generator may raise anything; the response says that it failed
            problem = error
            if not isinstance(error, MgemError):
                _log.error("A response failed", exc_info=error)
        finally:
            for event in await asyncio.to_thread(self.turn.give_up, problem):
                self._add(event)
            self._is_over = True
            self._notify()

    def _add(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class BackgroundRuns:
    """The responses of all users that run in the background on this server.

    Args:
        service: The parts of the server.
    """

    def __init__(self, service: AgentService) -> None:
        self._service = service
        self._runs: dict[tuple[str, str], BackgroundRun] = {}

    async def begin(self, user: User, turn: ResponseTurn, *, title: str) -> BackgroundRun:
        """Start a response.

        Args:
            user: Whose it is.
            turn: Its turn.
            title: The beginning of its input.

        Raises:
            QueueFullError: If too many jobs wait.
            ServerStoppingError: If the server is being stopped.
        """
        self._service.jobs.check_room()
        run = BackgroundRun(turn)
        response_id = str(run.response["id"])
        key, shared, held = (user.namespace, response_id), SharedRuns(self._service.sessions(user)), ExitStack()
        await asyncio.to_thread(held.enter_context, shared.hold(response_id))
        try:
            await asyncio.to_thread(turn.note_begun)
        except BaseException:
            held.close()
            raise
        self._runs[key] = run
        watching = asyncio.create_task(_cancel_if_asked(run, shared, response_id))

        def ended(_: object) -> None:
            self._runs.pop(key, None)
            watching.cancel()
            held.close()

        run.begin(self._service, user, title).add_done_callback(ended)
        return run

    def get(self, user: User, response_id: str) -> BackgroundRun | None:
        """Return the run of a response; None if it has ended, or does not run in the background."""
        return self._runs.get((user.namespace, response_id))

    async def cancel(self, user: User, response_id: str) -> dict[str, Any] | None:
        """Stop the run of a response, and return the response; None if there is no such run."""
        run = self.get(user, response_id)
        return await run.cancel() if run is not None else None

    async def cancel_elsewhere(self, user: User, response_id: str) -> None:
        """Stop the run of a response on another server, and wait until it has ended.

        Raises:
            StorageError: If it has not ended after some time.
        """
        shared = SharedRuns(self._service.sessions(user))
        await asyncio.to_thread(shared.ask_to_cancel, response_id)
        end = time.monotonic() + ENDED_S
        while await asyncio.to_thread(shared.is_running, response_id):
            if time.monotonic() > end:
                raise StorageError(
                    f"The server that runs the response {response_id!r} was asked to cancel it, and has not done so "
                    f"within {ENDED_S:.0f} seconds. Retrieve the response later."
                )
            await asyncio.sleep(ASK_S / 2)
        await asyncio.to_thread(shared.forget, response_id)

    def check_cancelled(self, response: dict[str, Any]) -> None:
        """Check whether a response that does not run may be cancelled: only again.

        Raises:
            InputError: If it was not in the background, or has ended otherwise.
        """
        if not response.get("background"):
            raise InputError(
                f"The response {response['id']!r} was not created with background=true, so it cannot be cancelled. "
                "Close its connection instead."
            )
        if response["status"] != "cancelled":
            raise InputError(f"The response {response['id']!r} is {response['status']}. It cannot be cancelled.")


async def _cancel_if_asked(run: BackgroundRun, shared: SharedRuns, response_id: str) -> None:
    """Cancel a run as soon as another server was asked to."""
    while True:
        await asyncio.sleep(ASK_S)
        with suppress(MgemError):  # the database may be back at the next look
            if await asyncio.to_thread(shared.is_asked_to_cancel, response_id):
                run.begin_to_cancel()
                return
