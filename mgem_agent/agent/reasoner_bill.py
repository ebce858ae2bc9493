"""What the calls of a reasoner cost: checked before a call by estimate, and counted by the usage that it reports."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from mgem_agent.chat_models.billing import may_cost_money, reasoner_name
from mgem_agent.tools.budget import Cost, Meter

__all__ = ["ReasonerBill"]

_BYTES_A_TOKEN = 3.5


class ReasonerBill:
    """Bills the calls of one reasoner.

    Args:
        reasoner: The chat model.
    """

    def __init__(self, reasoner: BaseChatModel) -> None:
        self._name = reasoner_name(reasoner)
        self._is_charged = may_cost_money(reasoner)

    def check(self, meter: Meter, num_input: int, num_output: int) -> None:
        """Check a call before it is made.

        Args:
            meter: The meter.
            num_input: Tokens of the request, by estimate.
            num_output: Tokens of the longest answer, as far as it is known.

        Raises:
            BudgetExceededError: If the call would pass a budget.
        """
        if meter.has_limits:
            meter.check(self._cost(meter, num_input, num_output), f"an answer of {self._name!r}")

    def add(self, meter: Meter, num_input: int, num_output: int) -> None:
        """Count a call."""
        meter.add(self._cost(meter, num_input, num_output))

    def add_answer(self, meter: Meter, answer: AIMessage, num_input: int) -> None:
        """Count an answer by its usage; without one, by an estimate.

        Args:
            meter: The meter.
            answer: The answer.
            num_input: Tokens of the request, by estimate.
        """
        usage = answer.usage_metadata
        if usage is not None:
            self.add(meter, usage["input_tokens"], usage["output_tokens"])
            return
        self.add(meter, num_input, round(len(str(answer.text).encode(errors="replace")) / _BYTES_A_TOKEN))

    def _cost(self, meter: Meter, num_input: int, num_output: int) -> Cost:
        usd = meter.prices.of_answer(self._name, num_input, num_output, is_charged=self._is_charged)
        return Cost.priced(usd, tokens=num_input + num_output)
