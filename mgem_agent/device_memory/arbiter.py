"""The arbiter of a device's memory: which models stay on it, and which one moves off it, when.

Each call of a model runs within :meth:`DeviceArbiter.use`. Decisions that matter:

- **Only idle models move.** A call that needs the room of a working model waits for it. Calls get their turn in the
  order in which they came, so that neither of two busy models starves.
- **One move at a time.** Two threads never move models at once.
- **A failed move loses nothing.** A model that cannot move to main memory is unloaded and loaded again when it is
  needed. One that cannot move to its device goes back to main memory, and the call fails.
- **A device without a limit moves nothing**: on a CPU, `auto` keeps every model.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from mgem_agent.device_memory.device_access import DeviceAccess, TorchDevices
from mgem_agent.device_memory.model_size import shown_bytes
from mgem_agent.device_memory.resident_model import MemoryPolicy, ResidentModel
from mgem_agent.errors import DeviceMemoryError, GenerationCancelledError

__all__ = ["DeviceArbiter", "Move", "set_shared_arbiter", "shared_arbiter"]

logger = logging.getLogger(__name__)

_POLL_S = 0.05
"""Seconds between checks whether a waiting call was cancelled."""
_FREEING_S = 5.0
"""Seconds that a server gets to free its memory."""
_SPARE = 1.1
"""Main memory that must be free to move a model there, as a multiple of its bytes."""
_MAX_MOVES = 1000


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a model.

    Attributes:
        model: Its name.
        to: Where it went: its device, main memory, or nowhere.
        num_bytes: Bytes of weights that moved.
        seconds: How long that took.
    """

    model: str
    to: Literal["home", "rest", "unloaded"]
    num_bytes: int
    seconds: float


class DeviceArbiter:
    """Decides which models are on a device. It may be called from any thread.

    Args:
        policy: What happens to the idle model.
        limit_bytes: Bytes of the device that models may take; None for all of them.
        access: Moves and counts weights; torch's devices by default.

    Attributes:
        moves: The latest moves.
    """

    def __init__(
        self, policy: MemoryPolicy = "auto", limit_bytes: int | None = None, access: DeviceAccess | None = None
    ) -> None:
        self.policy: MemoryPolicy = policy
        self.limit_bytes = limit_bytes
        self.access: DeviceAccess = access or TorchDevices()
        self.moves: deque[Move] = deque(maxlen=_MAX_MOVES)
        self._models: weakref.WeakSet[ResidentModel] = weakref.WeakSet()
        self._order: weakref.WeakKeyDictionary[ResidentModel, float] = weakref.WeakKeyDictionary()
        self._users: weakref.WeakKeyDictionary[ResidentModel, int] = weakref.WeakKeyDictionary()
        self._short: weakref.WeakSet[ResidentModel] = weakref.WeakSet()
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._is_moving = False
        self._held = threading.local()

    def configure(self, policy: MemoryPolicy, limit_bytes: int | None = None) -> None:
        """Set the policy; it applies from the next call on.

        Args:
            policy: The policy.
            limit_bytes: Bytes of the device that models may take; None for all of them.
        """
        with self._changed:
            self.policy, self.limit_bytes = policy, limit_bytes
            self._changed.notify_all()

    @contextmanager
    def use(self, model: ResidentModel, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Keep a model on its device for one call; move others off it first if the policy says so.

        A model that is not loaded yet is loaded within the call: there is room for it then.

        Args:
            model: The model.
            is_cancelled: Asked while the call waits for its turn.

        Raises:
            GenerationCancelledError: If it was cancelled while it waited.
            DeviceMemoryError: If the model cannot move to its device.
        """
        held: list[ResidentModel] = self._held.__dict__.setdefault("models", [])
        if any(each is model for each in held):
            yield
            return
        self._enter(model, is_cancelled, held)
        held.append(model)
        try:
            yield
        finally:
            held.remove(model)
            with self._changed:
                self._users[model] -= 1
                self._changed.notify_all()

    def make_room(self, model: ResidentModel) -> bool:
        """Move idle models off the device of one that ran out of memory; call it within :meth:`use`.

        From now on, `auto` moves them off before the model works.

        Args:
            model: The model.

        Returns:
            Whether any model has left, so that another try is worthwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_moving)
            if self.policy != "auto":
                return False
            self._short.add(model)
            leaving = [other for other in self._leaving(model) if not self._users.get(other)]
            self._is_moving = True
        try:
            for other in leaving:
                self._send_away(other, model)
        finally:
            with self._changed:
                self._is_moving = False
                self._changed.notify_all()
        return bool(leaving)

    def available_bytes(self, device: str) -> int | None:
        """Return the bytes of a device for models: what it has, or the limit; None if there is no limit."""
        found = self.access.available_bytes(device)
        limits = [each for each in (found, self.limit_bytes) if each is not None]
        return min(limits, default=None)

    def _enter(self, model: ResidentModel, is_cancelled: Callable[[], bool], held: list[ResidentModel]) -> None:
        """Wait for the model's turn, and make room for it."""
        turn = object()
        with self._changed:
            self._models.add(model)
            self._waiting.append(turn)
            try:
                while (leaving := self._ready(model, turn, held)) is None:
                    if is_cancelled():
                        raise GenerationCancelledError(
                            "The request was cancelled while it waited for the memory of the device.", retryable=True
                        )
                    self._changed.wait(_POLL_S)
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
            self._users[model] = self._users.get(model, 0) + 1
            self._order[model] = time.monotonic()
            self._is_moving = True
        try:
            for other in leaving:
                self._send_away(other, model)
            self._bring_home(model)
        except BaseException:
            with self._changed:
                self._users[model] -= 1
            raise
        finally:
            with self._changed:
                self._is_moving = False
                self._changed.notify_all()

    def _ready(self, model: ResidentModel, turn: object, held: list[ResidentModel]) -> list[ResidentModel] | None:
        """Return the models that must leave if it is the call's turn and they are idle; None to wait."""
        if self._is_moving or self._waiting[0] is not turn:
            return None
        leaving = self._leaving(model)
        # A thread that holds a model and calls another one does not compute with the first meanwhile.
        busy = any(self._users.get(other, 0) > sum(each is other for each in held) for other in leaving)
        return None if busy else leaving

    def _leaving(self, model: ResidentModel) -> list[ResidentModel]:
        """Return the models that must leave the device, servers first, then the least recently used."""
        if self.policy == "keep":
            return []
        others = [other for other in self._models if other is not model and _share_device(other, model)]
        if not others or (self.policy == "auto" and self.available_bytes(model.device) is None):
            return []
        others = [other for other in others if self._occupies(other)]
        others.sort(key=lambda other: (not other.is_served, self._order.get(other, 0.0)))
        if self.policy == "unload":
            return others
        if self.policy == "swap":
            return [other for other in others if other.is_served or self._may_rest(other)]
        return self._misfits(model, others)

    def _misfits(self, model: ResidentModel, others: list[ResidentModel]) -> list[ResidentModel]:
        """Return those of others that must leave so that a model fits."""
        available = self.available_bytes(model.device)
        if available is None or model.is_served:
            return []
        movable = [other for other in others if other.is_served or other.is_movable]
        needed = self._needed(model)
        if needed is None or model in self._short:
            return movable
        kept = sum(self._needed(other) or 0 for other in others if not other.is_served)
        leaving = []
        for other in movable:
            if needed + kept <= available:
                break
            leaving.append(other)
            if not other.is_served:
                kept -= self._needed(other) or 0
        return leaving

    def _needed(self, model: ResidentModel) -> int | None:
        """Return what a model needs on its device: what it has there, or would have; None if unknown."""
        size, resident = model.size(), model.resident_bytes()
        if size is None:
            return resident or None
        return (resident or size.weight_bytes) + size.working_bytes

    def _occupies(self, other: ResidentModel) -> bool:
        return bool(other.resident_bytes()) or self._users.get(other, 0) > 0

    def _may_rest(self, other: ResidentModel) -> bool:
        return other.is_movable and self.access.can_rest(other.device)

    def _send_away(self, other: ResidentModel, model: ResidentModel) -> None:
        """Move a model off its device, or unload it."""
        started, resident = time.monotonic(), other.resident_bytes()
        if other.is_served:
            other.unload()
            self._wait_for_server(model)
            self._record(other, "unloaded", resident, started)
            return
        if self._is_swapped(other, resident):
            try:
                other.to_rest()
            except Exception as error:  # whatever torch or a quantization library raises
                logger.warning("%s cannot move to main memory, so it is unloaded: %s", other.name, error)
            else:
                self._record(other, "rest", resident, started)
                return
        other.unload()
        self.access.release(other.device)
        self._record(other, "unloaded", resident, started)

    def _is_swapped(self, other: ResidentModel, resident: int) -> bool:
        if self.policy == "unload" or not self._may_rest(other):
            return False
        free = self.access.free_rest_bytes()
        return self.policy == "swap" or free is None or free >= resident * _SPARE

    def _wait_for_server(self, model: ResidentModel) -> None:
        """Give a server time to free its memory: it does so after it has answered."""
        until = time.monotonic() + _FREEING_S
        needed = self._needed(model) or 0
        while time.monotonic() < until:
            available = self.available_bytes(model.device)
            if available is None or needed <= available:
                return
            time.sleep(_POLL_S)

    def _bring_home(self, model: ResidentModel) -> None:
        if not model.is_resting:
            return
        started, before = time.monotonic(), model.resident_bytes()
        try:
            model.to_home()
        except Exception as error:
            self._put_back(model)
            available = self.available_bytes(model.device)
            free = "" if available is None else f", which has {shown_bytes(available)} for models"
            raise DeviceMemoryError(
                f"{model.name} cannot move to {model.device}{free}: {error}. Set memory_policy to 'unload', choose a "
                "smaller model, or quantize it."
            ) from error
        self._record(model, "home", model.resident_bytes() - before, started)

    def _put_back(self, model: ResidentModel) -> None:
        """Move what a failed move has left on the device back to main memory, as far as that works."""
        try:
            model.to_rest()
        except Exception as error:
            logger.warning("%s cannot move back to main memory, so it is unloaded: %s", model.name, error)
            model.unload()
            self.access.release(model.device)

    def _record(self, model: ResidentModel, to: Literal["home", "rest", "unloaded"], size: int, started: float) -> None:
        move = Move(model.name, to, size, time.monotonic() - started)
        self.moves.append(move)
        logger.info("%s: %s, %s in %.1f s", move.model, move.to, shown_bytes(size), move.seconds)


def _share_device(one: ResidentModel, other: ResidentModel) -> bool:
    """Return whether two models run on one device; a server on this machine is taken to use the accelerator."""
    first, second = (model.device if ":" in model.device else f"{model.device}:0" for model in (one, other))
    if one.is_served or other.is_served:
        return "cpu:0" not in (first, second)
    return first == second


_shared = DeviceArbiter()


def shared_arbiter() -> DeviceArbiter:
    """Return the arbiter of this process, in which all models that load themselves are registered."""
    return _shared


def set_shared_arbiter(arbiter: DeviceArbiter) -> None:
    """Make an arbiter that of this process; models that were created before keep theirs.

    Args:
        arbiter: The arbiter.
    """
    global _shared
    _shared = arbiter
