"""The command line: `mgem`."""

from mgem_agent.cli.app import main

__all__ = ["main"]
