"""The agent as one node of a LangGraph graph: one node has an idea, the next draws it, the last writes a caption."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from mgem_agent import MgemAgent


class State(TypedDict, total=False):
    """What the nodes hand on: plain values, and pictures as paths."""

    topic: str
    request: str
    pictures: list[str]
    post: str


def build(agent: MgemAgent) -> CompiledStateGraph:
    """Return the compiled graph around an agent."""

    def plan(state: State) -> State:
        return {"request": f"Draw {state['topic']}."}

    def paint(state: State) -> State:
        turn = agent.invoke(state["request"], draw="always")
        return {"pictures": [picture.path for picture in turn.pictures]}

    def publish(state: State) -> State:
        return {"post": f"{state['topic'].capitalize()}: {len(state['pictures'])} picture(s)"}

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("paint", paint)
    graph.add_node("publish", publish)
    for start, end in ((START, "plan"), ("plan", "paint"), ("paint", "publish"), ("publish", END)):
        graph.add_edge(start, end)
    return graph.compile()


if __name__ == "__main__":
    print(build(MgemAgent("nano", "nano")).invoke({"topic": "a dragon in a forest"}))
