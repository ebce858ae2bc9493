"""Use the models that a running `mgem serve` holds in memory, instead of loading them in each process.

`mgem serve` writes down which models it holds ([`running_server`][mgem_agent.resident.running_server]). A command that
needs the same reasoner or the same image generator then sends its requests there. Everything else runs in the command:
the agent, the dialogue, the store and the budget.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.resident.generator import ResidentGenerator
    from mgem_agent.resident.running_server import RunningServer, find_server
    from mgem_agent.resident.text_engine import make_resident_engine

__all__ = ["ResidentGenerator", "RunningServer", "find_server", "make_resident_engine"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ResidentGenerator": "mgem_agent.resident.generator",
        "RunningServer": "mgem_agent.resident.running_server",
        "find_server": "mgem_agent.resident.running_server",
        "make_resident_engine": "mgem_agent.resident.text_engine",
    },
)
