"""Budgets: limits in pictures, seconds, tokens and US dollars for a turn, a session or a book.

A `Meter` counts what is spent. Every call is checked before it is made, with what it will cost by estimate, and is
refused with a `BudgetExceededError` if it would pass a limit. What is already made is kept.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from mgem_agent.errors import BudgetExceededError, InputError
from mgem_agent.tools.prices import Prices

__all__ = ["Budget", "BudgetScope", "Budgets", "Cost", "Meter", "added_costs", "cost_in_words"]

BudgetScope = Literal["turn", "session", "book"]
"""What a budget is for."""

_UNITS = {
    "usd": ("usd", 1.0), "dollar": ("usd", 1.0), "dollars": ("usd", 1.0), "$": ("usd", 1.0),
    "picture": ("pictures", 1.0), "pictures": ("pictures", 1.0),
    "s": ("seconds", 1.0), "sec": ("seconds", 1.0), "second": ("seconds", 1.0), "seconds": ("seconds", 1.0),
    "min": ("seconds", 60.0), "minute": ("seconds", 60.0), "minutes": ("seconds", 60.0),
    "h": ("seconds", 3600.0), "hour": ("seconds", 3600.0), "hours": ("seconds", 3600.0),
    "token": ("tokens", 1.0), "tokens": ("tokens", 1.0),
}  # fmt: skip
_LIMIT = re.compile(r"\$?(?P<amount>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-z$]*)(?:/(?P<scope>[a-z]+))?")
_LIMITS = ("pictures", "seconds", "tokens", "usd")
_WHOLE = ("pictures", "tokens")


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls have cost, or will cost.

    Attributes:
        pictures: Number of pictures.
        seconds: Seconds.
        tokens: Tokens of input and output.
        usd: US dollars, of the calls whose price is known.
        unpriced: Number of calls that may cost money and whose price is not known.
    """

    pictures: int = 0
    seconds: float = 0.0
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum."""
        return Cost(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def __sub__(self, other: Cost) -> Cost:
        """Return the difference."""
        return Cost(**{name: value - getattr(other, name) for name, value in asdict(self).items()})

    def __bool__(self) -> bool:
        """Whether anything was spent."""
        return self != Cost()

    @classmethod
    def priced(cls, usd: float | None, **amounts: Any) -> Self:
        """Return the cost of one call whose price may be unknown (None)."""
        return cls(usd=usd or 0.0, unpriced=int(usd is None), **amounts)

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> Self:
        """Return a cost from its JSON; unknown fields are ignored."""
        return cls(**{name: value for name, value in (record or {}).items() if name in cls.__dataclass_fields__})

    def record(self) -> dict[str, Any]:
        """Return the cost as JSON, with rounded seconds and dollars."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "usd": round(self.usd, 8)}


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one scope. None means no limit.

    Attributes:
        pictures: Maximum number of pictures.
        seconds: Maximum seconds.
        tokens: Maximum tokens of input and output.
        usd: Maximum US dollars.

    Examples:
        >>> Budget.parse("0.50usd, 20pictures, 10min")
        Budget(pictures=20, seconds=600.0, tokens=None, usd=0.5)
    """

    pictures: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    usd: float | None = None

    @classmethod
    def parse(cls, text: Self | str) -> Self:
        """Read a budget.

        Args:
            text: Amounts with units, separated by commas.

        Raises:
            InputError: If it is not one.
        """
        if isinstance(text, cls):
            return text
        found: dict[str, float] = {}
        for limit, amount, scope in _read_limits(str(text)):
            if scope is not None:
                raise InputError(
                    f"The budget {text!r} names the scope {scope!r}, but it is for one scope. Leave it out."
                )
            found[limit] = amount
        return cls(**found)  # type: ignore[arg-type]

    def within(self, other: Budget) -> Budget:
        """Return the smaller limits of two budgets."""
        known = {
            name: [value for each in (self, other) if (value := getattr(each, name)) is not None] for name in _LIMITS
        }
        return Budget(**{name: min(values, default=None) for name, values in known.items()})

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self != Budget()

    def __str__(self) -> str:
        """The form that `parse` reads."""
        units = {"usd": "usd", "pictures": "pictures", "seconds": "s", "tokens": "tokens"}
        found = ((unit, getattr(self, name)) for name, unit in units.items())
        return ",".join(f"{amount:.10g}{unit}" for unit, amount in found if amount is not None)


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of all scopes.

    Attributes:
        turn: Of each turn, or of each command that is no dialogue.
        session: Of each session.
        book: Of each story.

    Examples:
        >>> Budgets.parse("1usd,5pictures/turn", "session")
        Budgets(turn=Budget(pictures=5, seconds=None, tokens=None, usd=None), \
session=Budget(pictures=None, seconds=None, tokens=None, usd=1.0), \
book=Budget(pictures=None, seconds=None, tokens=None, usd=None))
    """

    turn: Budget = Budget()
    session: Budget = Budget()
    book: Budget = Budget()

    @classmethod
    def parse(cls, given: Self | Budget | str | Mapping[str, Any] | None, scope: BudgetScope = "turn") -> Self:
        """Read budgets.

        Args:
            given: Amounts with units, each with an optional scope: `1usd/session,5pictures/turn`; or a `Budget`; or
                budgets by scope.
            scope: Scope of the amounts that name none.

        Raises:
            InputError: If it is not a budget.
        """
        if given is None:
            return cls()
        if isinstance(given, cls):
            return given
        if isinstance(given, Budget):
            return cls(**{scope: given})
        if isinstance(given, Mapping):
            if unknown := [name for name in given if name not in get_args(BudgetScope)]:
                raise InputError(f"There is no budget for a {unknown[0]!r}. Allowed: turn, session, book.")
            return cls(**{name: Budget.parse(text) for name, text in given.items() if text is not None})
        found: dict[str, dict[str, float]] = {}
        for limit, amount, named in _read_limits(str(given)):
            found.setdefault(named or scope, {})[limit] = amount
        return cls(**{name: Budget(**limits) for name, limits in found.items()})  # type: ignore[arg-type]

    def within(self, other: Budgets) -> Budgets:
        """Return the smaller limits of two, by scope."""
        scopes: Sequence[BudgetScope] = get_args(BudgetScope)
        return Budgets(**{scope: getattr(self, scope).within(getattr(other, scope)) for scope in scopes})


def _read_limits(text: str) -> Iterator[tuple[str, float, str | None]]:
    """Yield the limits in a text: field, amount, scope."""
    parts = [part.strip() for part in text.lower().split(",") if part.strip()]
    if not parts:
        raise InputError(f"The budget {text!r} is empty. {_FORM}")
    for part in parts:
        found = _LIMIT.fullmatch(part)
        unit = None if found is None else _UNITS.get(found["unit"] or ("$" if part.startswith("$") else ""))
        if found is None or unit is None:
            raise InputError(f"{part!r} in the budget {text!r} is not an amount with a unit. {_FORM}")
        if found["scope"] is not None and found["scope"] not in get_args(BudgetScope):
            raise InputError(f"There is no budget for a {found['scope']!r}. Allowed: /turn, /session, /book.")
        name, factor = unit
        amount = float(found["amount"]) * factor
        if name in _WHOLE and not amount.is_integer():
            raise InputError(f"{part!r} in the budget {text!r} is not a whole number of {name}.")
        yield name, int(amount) if name in _WHOLE else amount, found["scope"]


_FORM = "Example: 0.50usd,20pictures,10min,50000tokens. Units: usd, pictures, s, min, h, tokens."


@dataclass(frozen=True, slots=True)
class _Limit:
    scope: BudgetScope
    budget: Budget
    before: Cost


class Meter:
    """Counts what is spent, and refuses calls that would pass a budget. Any number of threads may use it.

    Args:
        budgets: The limits.
        prices: Prices of generators and reasoners.
        spent: What was spent before, by scope.
        outer: A meter that counts the same calls for a larger scope, such as a book's.

    Examples:
        >>> meter = Meter(Budgets.parse("1pictures"))
        >>> meter.check(Cost(pictures=1), "a picture by 'flat'")
        >>> meter.add(Cost(pictures=1))
        >>> try:
        ...     meter.check(Cost(pictures=1), "a picture by 'flat'")
        ... except BudgetExceededError as error:
        ...     print(str(error).partition(" Nothing")[0])
        The budget of this turn is 1 picture. Spent: 1 picture. Asked for: 1 more (a picture by 'flat').
    """

    def __init__(
        self,
        budgets: Budgets | None = None,
        prices: Prices | None = None,
        *,
        spent: Mapping[str, Cost] | None = None,
        outer: Meter | None = None,
    ) -> None:
        budgets, before = budgets or Budgets(), spent or {}
        scopes: Sequence[BudgetScope] = get_args(BudgetScope)
        self._limits = [
            _Limit(scope, getattr(budgets, scope), before.get(scope, Cost()))
            for scope in scopes
            if getattr(budgets, scope)
        ]
        self.prices: Prices = prices if prices is not None else outer.prices if outer is not None else Prices()
        self._outer = outer
        self._started = time.monotonic()
        self._spent = Cost()
        self._reserved = Cost()
        self._picture_seconds = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> Cost:
        """What was spent since this meter was created."""
        with self._lock:
            return replace(self._spent, seconds=time.monotonic() - self._started)

    @property
    def has_limits(self) -> bool:
        """Whether there is any limit."""
        return bool(self._limits) or (self._outer is not None and self._outer.has_limits)

    def seconds_left(self) -> float | None:
        """Return the seconds until the first limit in seconds; None if there is none."""
        spent = self.spent.seconds
        left = [
            each.budget.seconds - each.before.seconds - spent
            for each in self._limits
            if each.budget.seconds is not None
        ]
        outer = self._outer.seconds_left() if self._outer is not None else None
        return min([*left, *([] if outer is None else [outer])], default=None)

    def check(self, asked: Cost, what: str) -> None:
        """Check that a call may be made.

        Args:
            asked: What it will cost, by estimate.
            what: What it is, for the message.

        Raises:
            BudgetExceededError: If it would pass a limit, or its price is not known and there is a limit in dollars.
        """
        spent = self.spent
        with self._lock:
            spent = spent + replace(self._reserved, seconds=0.0)
        for limit in self._limits:
            _check(limit, limit.before + spent, asked, what)
        if self._outer is not None:
            self._outer.check(asked, what)

    @property
    def seconds_a_picture(self) -> float:
        """Mean seconds of the pictures so far: the estimate for the next one."""
        with self._lock:
            return self._picture_seconds / self._spent.pictures if self._spent.pictures else 0.0

    def add(self, cost: Cost) -> None:
        """Count what a call has cost. What is spent in seconds is counted by the clock."""
        with self._lock:
            self._spent += replace(cost, seconds=0.0)
            self._picture_seconds += cost.seconds if cost.pictures else 0.0
        if self._outer is not None:
            self._outer.add(cost)

    def reserve(self, asked: Cost, what: str) -> None:
        """Check a call as `check` does, and count its cost until `release`, so that calls of one batch add up."""
        self.check(asked, what)
        self._hold(asked, 1)

    def release(self, asked: Cost) -> None:
        """Stop counting what `reserve` has counted."""
        self._hold(asked, -1)

    def _hold(self, asked: Cost, sign: int) -> None:
        with self._lock:
            self._reserved += Cost(
                sign * asked.pictures, 0.0, sign * asked.tokens, sign * asked.usd, sign * asked.unpriced
            )
        if self._outer is not None:
            self._outer._hold(asked, sign)


def _check(limit: _Limit, spent: Cost, asked: Cost, what: str) -> None:
    for name in _LIMITS:
        most = getattr(limit.budget, name)
        if most is None:
            continue
        used, more = getattr(spent, name), getattr(asked, name)
        if name == "usd" and asked.unpriced:
            raise BudgetExceededError(
                f"The budget of this {limit.scope} is {_amount(name, most)}, and the price of {what} is not known. "
                "State it in the table `prices` of the configuration (mgem config path shows the file), or leave out "
                "the limit in dollars."
            )
        # Every call takes some time. A call that needs nothing else is not refused, such as a free one for dollars.
        is_passed = more > 0 and used + more > most + 1e-9
        if is_passed or (name == "seconds" and used >= most):
            told = f"{_amount(name, more)} more ({what})" if name != "pictures" and more else f"{more} more ({what})"
            raise BudgetExceededError(
                f"The budget of this {limit.scope} is {_amount(name, most)}. Spent: {_amount(name, used)}. Asked for: "
                f"{told if name != 'seconds' else what}. Nothing is lost. Raise the budget to go on: --budget, the "
                f"setting budget.{limit.scope}, or budget=…."
            )


def _amount(name: str, value: float) -> str:
    if name == "usd":
        return f"{value:.4g} USD"
    if name == "seconds":
        return f"{value:.0f} s"
    unit = name if value != 1 else name.removesuffix("s")
    return f"{value:,.0f} {unit}"


def added_costs(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the sum of two costs in JSON; None counts as nothing."""
    return (Cost.read(first) + Cost.read(second)).record()


def cost_in_words(cost: Cost) -> str:
    """Return a cost as a short line.

    Examples:
        >>> cost_in_words(Cost(pictures=2, seconds=8.2, tokens=1500, usd=0.08, unpriced=1))
        '2 pictures, 8.2 s, 1,500 tokens, 0.08 USD and 1 call without a known price'
    """
    parts = [_amount("pictures", cost.pictures)] if cost.pictures else []
    parts += [f"{cost.seconds:.1f} s"]
    parts += [_amount("tokens", cost.tokens)] if cost.tokens else []
    money = [f"{cost.usd:.4g} USD"] if cost.usd or not cost.unpriced else []
    if cost.unpriced:
        money.append(f"{cost.unpriced} call{'s' if cost.unpriced > 1 else ''} without a known price")
    return ", ".join([*parts, " and ".join(money)])
