"""What the routes of the page share: the server's parts, what runs in the background, and thumbnails."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import Request, Response

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MgemError
from mgem_agent.server.page.gallery import Pictures
from mgem_agent.server.page.live import LivePlace
from mgem_agent.server.page.live_drawing import LiveDrawing
from mgem_agent.server.page.live_story import LiveStory
from mgem_agent.server.page.live_turn import LiveTurn
from mgem_agent.server.page.rendering import html_response, render
from mgem_agent.server.page.thumbnails import Thumbnails
from mgem_agent.server.security import User
from mgem_agent.server.service import AgentService
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.workflows.story_shelf import StoryShelf

__all__ = ["PageState"]

NUM_PREVIEWS = 3


class PageState:
    """The state of the page; one per server.

    Args:
        service: The parts of the server.

    Attributes:
        service: As above.
        turns: Turns that run, by user and session.
        drawings: New versions that are drawn, by user and picture.
        stories: Stories that are told, by user and name.
        thumbnails: Thumbnails.
    """

    def __init__(self, service: AgentService) -> None:
        self.service = service
        self.turns: LivePlace[LiveTurn] = LivePlace()
        self.drawings: LivePlace[LiveDrawing] = LivePlace()
        self.stories: LivePlace[LiveStory] = LivePlace()
        self.thumbnails = Thumbnails()
        self._pictures: dict[str, Pictures] = {}
        self._lock = threading.Lock()

    def user(self, request: Request) -> User:
        """Return the user of a request."""
        return self.service.user(request)

    def store(self, user: User) -> ArtifactStore:
        """Return a user's pictures."""
        return self.service.store(user)

    def sessions(self, user: User) -> Sessions:
        """Return a user's sessions."""
        return self.service.sessions(user)

    def pictures(self, user: User) -> Pictures:
        """Return the records of a user's pictures."""
        with self._lock:
            if user.namespace not in self._pictures:
                self._pictures[user.namespace] = Pictures(self.store(user))
            return self._pictures[user.namespace]

    def shelf(self, user: User) -> StoryShelf:
        """Return a user's stories."""
        return StoryShelf.beside(self.store(user))

    def agent(self, user: User, *, generator: str = "", confirm: bool | None = None) -> MgemAgent:
        """Return the agent of a chat.

        Args:
            user: The user.
            generator: Name of the generator; empty for the default.
            confirm: Whether captions wait for a decision; None for the server's setting.
        """
        return self.service.agent(
            user,
            generator=generator or None,
            confirm=self.service.config.confirm if confirm is None else confirm,
            num_previews=NUM_PREVIEWS,
        )

    def find(self, user: User, picture_id: str) -> Artifact | None:
        """Return the record of a picture; None if it is no longer stored."""
        try:
            return self.store(user).get(picture_id)
        except MgemError:
            return None

    def render(self, template: str, user: User, **variables: Any) -> str:
        """Return a template with the variables that every template has."""
        return render(
            template,
            user=user,
            find=lambda picture_id: self.find(user, picture_id),
            needs_token=self.service.access.needs_token,
            **variables,
        )

    def page(self, template: str, user: User, status: int = 200, **variables: Any) -> Response:
        """Return a template as a response."""
        return html_response(self.render(template, user, **variables), status)
