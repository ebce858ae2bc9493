"""The model looks at what it drew, and redraws what does not follow its caption, twice at most.

Any reasoner that sees can judge: `python examples/look_and_retry.py openai:gpt-5 openai:gpt-image-2`
"""

import sys
from typing import Any

from mgem_agent import MgemAgent
from mgem_agent.agent import LookedAt, PictureDrawn, Turn, TurnFinished


def main(reasoner: Any = "nano", generator: Any = "nano", **options: Any) -> Turn:
    """Run a turn, print what happens, and return the turn."""
    agent = MgemAgent(reasoner, generator, look=2, **options)
    for event in agent.stream("Draw a dragon in a forest.", draw="always"):
        if isinstance(event, PictureDrawn):
            print("drawn:", event.path)
        elif isinstance(event, LookedAt):
            verdict = {True: "follows its caption", False: f"does not: {event.problem}", None: "could not be judged"}
            print("looked:", verdict[event.follows])
        elif isinstance(event, TurnFinished):
            return event.turn
    raise RuntimeError("The stream ended without its last event.")


if __name__ == "__main__":
    print(main(*sys.argv[1:3]).pictures)
