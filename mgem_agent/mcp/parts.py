"""What the tools of an MCP server work with. Everything is created by the caller, so that any host can use them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mgem_agent.artifacts.redrawing import is_recorded_as
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.langchain.picture_access import PictureAccess
from mgem_agent.mcp.books import Books
from mgem_agent.tools.background_call import call_in_background
from mgem_agent.tools.budget import Budgets
from mgem_agent.tools.editing_plan import EditWay
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.prices import Prices
from mgem_agent.tools.shared_meter import SharedMeter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["McpParts", "RunWork", "Spending", "run_in_thread"]

Result = TypeVar("Result")

Spending = Literal["ask", "allow", "refuse"]
"""What happens before a picture that costs money: a person is asked, it is drawn, or it is refused."""


class RunWork(Protocol):
    """Runs a function that draws or thinks, off the event loop."""

    def __call__(
        self,
        kind: str,
        work: Callable[[threading.Event], Result],
        *,
        title: str = "",
        on_cancel: Callable[[], object] | None = None,
    ) -> Awaitable[Result]:
        """Run a function.

        Args:
            kind: What it does, such as `draw`.
            work: Called with an event that is set to stop it, which cancelling this call does.
            title: The beginning of the prompt, for lists.
            on_cancel: Called when it is stopped.
        """
        ...


async def run_in_thread(
    kind: str,
    work: Callable[[threading.Event], Result],
    *,
    title: str = "",
    on_cancel: Callable[[], object] | None = None,
) -> Result:
    """Run a function in a thread of its own, as `RunWork` defines it."""
    cancel = threading.Event()
    running = asyncio.wrap_future(call_in_background(lambda: work(cancel)))
    running.add_done_callback(lambda done: done.cancelled() or done.exception())  # after a cancellation, nobody asks
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancel.set()
        if on_cancel is not None:
            on_cancel()
        raise


@dataclass(frozen=True)
class McpParts:
    """The parts of an MCP server.

    Attributes:
        generators: Names of the generators that clients may use; the first is the default. A client cannot name any
            other, because a name may be an address or a folder.
        make_generator: Creates a generator by its name; called once for each name.
        store: The store of the pictures.
        books: The books.
        reasoner: Creates the chat model; called once. None if there is none.
        sees: Whether the reasoner takes pictures, so that `look` is offered.
        access: Which local files clients may name; none by default.
        defaults: Values for fields of image requests that a call does not set.
        fallbacks: Ways of editing that may replace one that the generator does not support.
        confirm: Whether a person approves each caption, outline and page.
        spending: What happens before a picture that costs money.
        has_links: Whether results have links to resources; None for clients that name themselves. Others, such as
            LangChain, pass them to a model that cannot open them.
        budgets: Limits of each call that draws (`turn`), of all of them while the server runs (`session`), and of each
            book.
        prices: Prices of generators and reasoners.
        story_options: Returns further arguments of `Storyteller`, such as `look`, for the chat model that judges.
        run: Runs what draws or thinks; by default in a thread.
        meter: Counts what the calls that draw spend.
    """

    generators: Sequence[str]
    make_generator: Callable[[str], ImageGenerator]
    store: ArtifactStore
    books: Books
    reasoner: Callable[[], BaseChatModel] | None = None
    sees: bool = True
    access: PictureAccess = PictureAccess()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: Sequence[EditWay] = ("edit", "image_to_image", "redraw")
    confirm: bool = False
    spending: Spending = "ask"
    has_links: bool | None = None
    budgets: Budgets = Budgets()
    prices: Prices = field(default_factory=Prices)
    story_options: Callable[[Callable[[], BaseChatModel] | None], Mapping[str, Any]] = lambda judge: {}
    run: RunWork = run_in_thread
    meter: SharedMeter = field(init=False, repr=False)
    _made: dict[str, ImageGenerator] = field(default_factory=dict, repr=False)
    _models: list[BaseChatModel] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", SharedMeter(self.budgets, self.prices))

    def generator(self, name: str | None = None) -> ImageGenerator:
        """Return a generator.

        Args:
            name: Its name; None for the default.

        Raises:
            InputError: If clients may not use it, or it cannot be created.
        """
        name = self.generators[0] if name is None else name
        if name not in self.generators:
            raise InputError(
                f"There is no generator {name[:200]!r} here. Available: {', '.join(self.generators)}. The tool "
                "`generators` describes them."
            )
        with self._lock:
            if name not in self._made:
                self._made[name] = self.make_generator(name)
            return self._made[name]

    def chat_model(self) -> BaseChatModel:
        """Return the reasoner.

        Raises:
            InputError: If there is none, or it cannot be created.
        """
        if self.reasoner is None:
            raise InputError("This server has no chat model. Start it with --model.")
        with self._lock:
            if not self._models:
                self._models.append(self.reasoner())
            return self._models[0]

    def recorded_generator(self, recorded: str) -> ImageGenerator:
        """Return the generator that a record names.

        Args:
            recorded: The name in the record of a picture.

        Raises:
            InputError: If clients may not use it.
        """
        name = next((name for name in self.generators if is_recorded_as(name, recorded)), None)
        if name is None:
            raise InputError(
                f"The picture was drawn by {recorded[:200]!r}, which is not available here. Give `generator`, one of: "
                f"{', '.join(self.generators)}."
            )
        return self.generator(name)
