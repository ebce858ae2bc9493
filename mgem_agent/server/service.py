"""What every route uses: the reasoner, the generators, each user's sessions and pictures, and the queue."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from hashlib import sha256
from itertools import count
from typing import Any
from urllib.parse import quote

from langchain_core.language_models import BaseChatModel
from starlette.requests import Request

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.redaction import redact
from mgem_agent.server.generators import Generators
from mgem_agent.server.jobs import Job, Jobs
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.reasoner_watch import ReasonerWatch, watched
from mgem_agent.server.security import LOCAL_USER, Access, User
from mgem_agent.server.tracing import open_tracing
from mgem_agent.server_settings import ServerSettings
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.settings import Settings
from mgem_agent.tools.budget import Budgets, Meter
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.look import Look
from mgem_agent.tools.prices import Prices

__all__ = ["AGENT_MODEL", "AgentService"]

AGENT_MODEL = "mgem"
"""Name of the agent among the models: the reasoner, which draws with the generator."""

MAX_AGENTS = 64

StoryOptions = Callable[[Callable[[], BaseChatModel] | None], Mapping[str, Any]]


class AgentService:
    """The parts of a server. Routes are asynchronous; whatever runs a model is a job of `jobs`, in a thread.

    Args:
        config: All settings; its table `server` is `settings`.
        reasoner: The chat model.
        generators: Names of the generators that clients may use; the first is the default.
        make_generator: Creates a generator by its name.
        store: The local user's pictures; other users' are in folders below.
        sessions: The local user's sessions; other users' are in the same database.
        access: Who may use the server.
        story_options: Returns further arguments of `Storyteller`, such as `look`, for the chat model that judges.

    Attributes:
        config: As above.
        settings: Settings of the server.
        reasoner: As above, with its answers counted.
        reasoner_name: Name of the reasoner among the models.
        generators: The generators.
        jobs: The queue.
        access: As above.
        metrics: Counts for Prometheus.
        tracing: Spans for OpenTelemetry.
        story_options: As above.
    """

    def __init__(
        self,
        config: Settings,
        *,
        reasoner: BaseChatModel,
        generators: Sequence[str],
        make_generator: Callable[[str], ImageGenerator],
        store: ArtifactStore,
        sessions: Sessions,
        access: Access | None = None,
        story_options: StoryOptions = lambda judge: {},
    ) -> None:
        self.config = config
        self.settings: ServerSettings = config.server
        self.story_options = story_options
        self.metrics = Metrics()
        self.tracing = open_tracing()
        self.reasoner_name = redact(config.model)
        slots = self.settings.reasoner_slots
        self.reasoner = watched(reasoner, self.reasoner_name, self.metrics, self.tracing, slots=slots)
        self.access = access if access is not None else Access()
        self.jobs = Jobs(workers=self.settings.workers, queue=self.settings.queue, watch=self._job_ended)
        self.generators = Generators(
            generators,
            make_generator,
            max_batch=self.settings.max_batch,
            wait_s=self.settings.gather_s,
            expects_more=self.jobs.expects_more,
            metrics=self.metrics,
            tracing=self.tracing,
        )
        self.metrics.show_gauge("mgem_jobs_running", "Running jobs.", lambda: self.jobs.num_running)
        self.metrics.show_gauge("mgem_jobs_waiting", "Waiting jobs.", lambda: self.jobs.num_waiting)
        self.metrics.show_gauge(
            "mgem_pictures_waiting", "Pictures that wait for a batch.", lambda: self.generators.num_waiting
        )
        self._store = store
        self._stores: dict[str, ArtifactStore] = {}
        self._sessions = sessions
        self._passing = Sessions.in_memory()
        self._passing_names: set[str] = set()
        self._agents: OrderedDict[str, MgemAgent] = OrderedDict()
        self._lock = threading.Lock()

    def _job_ended(self, job: Job, waited_s: float, ran_s: float) -> None:
        self.metrics.job_ended(job.kind, waited_s, ran_s, is_cancelled=job.state == "cancelled")

    def user(self, request: Request) -> User:
        """Return the user of a request.

        Raises:
            UnauthorizedError: If a token is required and the request has none that is valid.
        """
        known = getattr(request.state, "user", None)
        return known if isinstance(known, User) else self.access.user_of(request)

    def reasoner_slot(self) -> AbstractContextManager[None]:
        """Return a context that takes one of the slots of `reasoner_slots`, for an answer without the agent."""
        watches = self.reasoner.callbacks if isinstance(self.reasoner.callbacks, list) else []
        watch = next((each for each in watches if isinstance(each, ReasonerWatch)), None)
        return nullcontext() if watch is None else watch.slot()

    def sessions(self, user: User) -> Sessions:
        """Return a user's saved sessions."""
        return self._sessions.of_user(user.namespace) if user.namespace else self._sessions

    @contextmanager
    def passing_session(self, dialogue: str) -> Iterator[tuple[Sessions, str]]:
        """Provide a session in memory for a client that sends the whole dialogue with each request.

        Requests of one dialogue get the same name, so that the reasoner finds its caches. The session is deleted at the
        end.

        Args:
            dialogue: What all requests of the dialogue have in common, such as its first message.

        Yields:
            The sessions, and the name of the session.
        """
        stem = f"dialogue-{sha256(dialogue.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
        with self._lock:
            names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
            name = next(name for name in names if name not in self._passing_names)
            self._passing_names.add(name)
        try:
            yield self._passing, name
        finally:
            with suppress(InputError):  # it was never begun
                self._passing.delete(name)
            with self._lock:
                self._passing_names.discard(name)

    def store(self, user: User) -> ArtifactStore:
        """Return a user's pictures."""
        if not user.namespace:
            return self._store
        with self._lock:
            if user.namespace not in self._stores:
                self._stores[user.namespace] = self._store.below("users", user.namespace)
            return self._stores[user.namespace]

    def agent(
        self,
        user: User,
        *,
        generator: str | None = None,
        reasoner_options: Mapping[str, Any] | None = None,
        is_saved: bool = True,
        **agent_settings: Any,
    ) -> MgemAgent:
        """Return an agent for a user. Agents are kept, because creating one takes as long as a short turn.

        Args:
            user: The user.
            generator: Name of the generator; None for the default.
            reasoner_options: Fields of the reasoner for this agent, such as `temperature`; None for its own.
            is_saved: Whether sessions are the user's saved ones, or pass with the request.
            **agent_settings: Arguments of `MgemAgent` that override the settings, such as `draw` or `confirm`.

        Raises:
            NotFoundError: If there is no generator of this name.
            InputError: If a setting is not valid.
        """
        name = self.generators.default if generator is None else generator
        options = dict(reasoner_options or {})
        key = json.dumps([user.namespace, name, is_saved, options, agent_settings], sort_keys=True, default=repr)
        with self._lock:
            if key in self._agents:
                self._agents.move_to_end(key)
                return self._agents[key]
        made = MgemAgent(
            self.reasoner.model_copy(update=options) if options else self.reasoner,
            self.generators.get(name),
            store=self.store(user),
            sessions=self.sessions(user) if is_saved else self._passing,
            **{**self._agent_settings(), **agent_settings},
        )
        with self._lock:
            self._agents[key] = made
            while len(self._agents) > MAX_AGENTS:
                self._agents.popitem(last=False)
        return made

    def _agent_settings(self) -> dict[str, Any]:
        names = (
            "draw",
            "look",
            "max_pictures",
            "timeout_s",
            "system_prompt",
            "sees",
            "max_context_tokens",
            "max_context_pictures",
            "max_history_turns",
        )
        return {name: getattr(self.config, name) for name in names} | {
            "defaults": self.config.draw_defaults,
            "budget": self.config.budgets,
            "prices": self.config.prices,
        }

    def look(self, asked: int | str | None) -> Look:
        """Return what follows if a picture does not match its caption.

        Args:
            asked: As a request states it; None for the server's setting.

        Raises:
            InputError: If it is not a look.
        """
        return Look.parse(self.config.look if asked is None else asked)

    def meter(self) -> Meter:
        """Return a meter for one request that draws without the agent: with the budget of a turn."""
        return Meter(Budgets(turn=self.config.budgets.turn), Prices(self.config.prices))

    def picture_path(self, user: User, image_id: str) -> str:
        """Return the address of a picture on this server, without the server's name; it needs no token."""
        signature = self.access.sign(user, image_id)
        return f"/pictures/{quote(image_id)}" + (f"?key={signature}" if signature else "")

    def picture_url(self, user: User, image_id: str, request: Request | None = None) -> str:
        """Return the absolute address of a picture; it needs no token.

        Args:
            user: Whose picture it is.
            image_id: Its id.
            request: The client's request, whose host name is used unless `public_url` is set.
        """
        return self.base_url(request) + self.picture_path(user, image_id)

    def base_url(self, request: Request | None = None) -> str:
        """Return the address of the server, without a slash at the end; argument as for `picture_url`."""
        if self.settings.public_url is not None:
            return self.settings.public_url.rstrip("/")
        if request is not None:
            return str(request.base_url).rstrip("/")
        host = self.settings.host if ":" not in self.settings.host else f"[{self.settings.host}]"
        return f"http://{host}:{self.settings.port}"

    def picture_owner(self, image_id: str, key: str, request: Request) -> User:
        """Return the user whose picture may be read with a request: by the signature, or by the request's token.

        Args:
            image_id: Id of the picture.
            key: Signature in the address.
            request: The request.

        Raises:
            UnauthorizedError: If neither is valid.
        """
        if not self.access.needs_token:
            return LOCAL_USER
        return self.access.owner_of(image_id, key) or self.access.user_of(request)

    async def close(self) -> None:
        """Let running jobs finish, within `drain_s`, and end all threads."""
        await self.jobs.drain(self.settings.drain_s)
        self.generators.close()
        self.jobs.close()
        await asyncio.to_thread(self.tracing.close)
