"""The graph of a turn: reason, confirm, draw, look, answer the calls, and reason again or stop.

One run of the graph is one turn, with its own LangGraph thread. Key decisions:

- **The state is plain JSON**: messages are records, pictures are ids. Objects that cannot be stored (the reasoner,
  earlier turns, cancellation) are in the run's context.
- **All captions of an answer are one batch**. Each picture is stored as soon as it is drawn.
- **The node that interrupts draws nothing**, because LangGraph reruns it from its beginning.
- **A failed drawing is a tool result**, and does not end the turn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from mgem_agent.agent.agent_settings import AgentSettings
from mgem_agent.agent.context_window import Limits
from mgem_agent.agent.decision import Decision, apply_decision
from mgem_agent.agent.drawing import TurnDrawing
from mgem_agent.agent.events import AgentNotice, CaptionReady, LookedAt, TextPiece, TurnOutcome
from mgem_agent.agent.image_judge import Verdict, verdict_of
from mgem_agent.agent.messages import from_records, store_pictures, to_record
from mgem_agent.agent.reasoning import Answer, Reasoning
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_judge import TurnJudge
from mgem_agent.agent.turn_state import TurnState
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ContextOverflowError, GenerationCancelledError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
from mgem_agent.scoring.picture_judge import PictureJudge
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["AgentGraph"]


class AgentGraph:
    """The nodes of the graph.

    Args:
        reasoner: The chat model.
        generator: The image generator.
        store: The picture store.
        sessions: The session storage.
        settings: The agent's settings.
    """

    def __init__(
        self,
        reasoner: BaseChatModel,
        generator: ImageGenerator,
        store: ArtifactStore,
        sessions: Sessions,
        settings: AgentSettings,
    ) -> None:
        self._generator = generator
        self._store = store
        self._sessions = sessions
        self._settings = settings
        limits = Limits(settings.max_context_pictures, settings.max_context_tokens)
        self._reasoning = Reasoning(reasoner, store, settings.defaults, limits=limits, sees=settings.sees)

    def compile(self) -> CompiledStateGraph[TurnState, TurnContext, TurnState, TurnState]:
        """Return the compiled graph."""
        builder: StateGraph[TurnState, TurnContext, TurnState, TurnState] = StateGraph(
            TurnState, context_schema=TurnContext
        )
        builder.add_node("reason", self._reason)
        builder.add_node("confirm", self._confirm)
        builder.add_node("draw", self._draw)
        builder.add_node("look", self._look)
        builder.add_node("answer", self._answer)
        builder.add_conditional_edges(START, lambda state: "draw" if state["calls"] else "reason", ["draw", "reason"])
        builder.add_conditional_edges("reason", self._after_reason, ["confirm", "draw", "answer", END])
        builder.add_conditional_edges("confirm", _draw_or_answer, ["draw", "answer"])
        builder.add_conditional_edges("draw", _after_draw, ["look", "reason", END])
        builder.add_conditional_edges("look", _draw_or_answer, ["draw", "answer"])
        builder.add_conditional_edges("answer", _after_draw, ["reason", END])
        return builder.compile(checkpointer=self._sessions.checkpointer)

    def _reason(self, state: TurnState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
        started = time.monotonic()
        run, emit = runtime.context, runtime.stream_writer
        if run.cancel.is_set():  # nothing is asked in a turn that is being ended
            run.check()
            return {"messages": [to_record(AIMessage(content=run.said))], "calls": [], "outcome": run.why}
        try:
            answer = self._reasoning.ask(
                from_records(state["messages"]),
                draw=state["draw"],
                session=state["session"],
                is_first=not state["num_rounds"],
                cancel=run.cancel,
                emit=lambda text: emit(TextPiece(text)),
                history=run.history,
                system_prompt=self._settings.system_prompt,
            )
        except ContextOverflowError as error:
            if not state["num_rounds"]:
                raise  # nothing has happened yet in this turn
            emit(AgentNotice(str(error)))
            return {"calls": [], "results": [], "outcome": "answered", "notices": [str(error)]}
        run.check()
        for notice in answer.notices:
            emit(AgentNotice(notice))
        calls, results = self._planned(state, answer)
        for call in calls:
            emit(CaptionReady(call["call_id"], call["request"]))
        kept = store_pictures(answer.message, self._store)
        return {
            "messages": [to_record(kept)],
            "calls": calls,
            "results": results,
            "num_rounds": state["num_rounds"] + 1,
            "seconds": time.monotonic() - started,
            "outcome": run.why if run.cancel.is_set() else None if results else _ending(answer),
            "notices": list(answer.notices),
            "finish_reason": answer.finish_reason,
        }

    def _planned(self, state: TurnState, answer: Answer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the calls to draw, and a result entry for every call of the answer."""
        calls: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        left = self._settings.max_pictures - state["num_drawn"]
        for place, call in enumerate(answer.calls):
            result: dict[str, Any] = {"call_id": call.id, "request": call.request, "attempts": [], "error": call.error}
            result["notices"] = list(call.notices)
            if call.request is not None and len(calls) >= left:
                limit = self._settings.max_pictures
                result |= {"error": f"A turn draws at most {limit} picture(s); this one was not drawn.", "limit": True}
            elif call.request is not None:
                key = f"{state['num_rounds']}.{place}"
                calls.append({"call_id": call.id, "key": key, "request": call.request})
                result["key"] = key
            results.append(result)
        return calls, results

    def _after_reason(self, state: TurnState) -> str:
        if state["outcome"] == "cancelled" or state["outcome"] == "timeout":
            return END
        if state["calls"]:
            return "confirm" if self._settings.confirm else "draw"
        return "answer" if state["results"] else END

    def _confirm(self, state: TurnState) -> dict[str, Any]:
        decision = interrupt([{"call_id": call["call_id"], "request": call["request"]} for call in state["calls"]])
        calls, refused = apply_decision(state["calls"], Decision.model_validate(decision))
        requests = {call["call_id"]: call["request"] for call in calls}
        results = [
            {
                **result,
                "request": requests.get(result["call_id"], result["request"]),
                "error": refused.get(result["call_id"], result["error"]),
            }
            for result in state["results"]
        ]
        return {"calls": calls, "results": results}

    def _draw(self, state: TurnState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
        started = time.monotonic()
        run = runtime.context
        cancel = run.begin_drawing()
        drawing = TurnDrawing(
            self._generator,
            self._store,
            self._sessions,
            state["turn"],
            runtime.stream_writer,
            cancel,
            run.is_resumed,
            self._settings.num_previews,
        )
        found = drawing.run(state["calls"])
        run.drawing = None
        run.check()
        results = []
        for result in state["results"]:
            new = found.get(result["call_id"])
            if new is None:
                results.append(result)
            elif "error" in new:
                # If a redraw fails, the first picture is kept.
                results.append({**result, "error": None if result["attempts"] else new["error"]})
            else:
                results.append({**result, "attempts": [*result["attempts"], new]})
        done = {
            "calls": [],
            "results": results,
            "num_drawn": state["num_drawn"] + sum("error" not in new for new in found.values()),
            "seconds": time.monotonic() - started,
        }
        # Each step costs a checkpoint, so the calls are answered in this step if no look follows.
        return done if self._wants_look(state, results, run) else done | self._answered(state, results, run)

    def _wants_look(self, state: TurnState, results: list[dict[str, Any]], run: TurnContext) -> bool:
        unseen = any(result["attempts"] and "follows" not in result["attempts"][-1] for result in results)
        # Pictures that the user requested directly are not judged.
        return bool(self._settings.look and state["num_rounds"] and unseen and not run.cancel.is_set())

    def _look(self, state: TurnState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
        started = time.monotonic()
        calls: list[dict[str, Any]] = []
        results = []
        notices: list[str] = []
        left = self._settings.max_pictures - state["num_drawn"]
        for result in state["results"]:
            attempts = result["attempts"]
            if not attempts or "follows" in attempts[-1]:
                results.append(result)
                continue
            verdict, said = self._verdict(state, result, runtime)
            notices += said
            seen = {**attempts[-1], "follows": verdict.follows, "score": verdict.score, "problem": verdict.problem}
            results.append({**result, "attempts": [*attempts[:-1], seen]})
            if verdict.follows is False and len(attempts) <= self._settings.look and len(calls) < left:
                calls.append(_again(result, verdict))
        for notice in notices:
            runtime.stream_writer(AgentNotice(notice))
        seconds = time.monotonic() - started
        return {"calls": calls, "results": results, "seconds": seconds, "notices": notices}

    def _verdict(
        self, state: TurnState, result: Mapping[str, Any], runtime: Runtime[TurnContext]
    ) -> tuple[Verdict, list[str]]:
        """The reasoner's verdict on a picture, and why there is none."""
        run, emit = runtime.context, runtime.stream_writer
        name, caption = result["attempts"][-1]["artifact"], result["request"]["prompt"]
        verdict, notices = Verdict(), []
        if not self._reasoning.sees:
            return verdict, ["The picture was not judged, because the reasoner takes no pictures."]
        judge = PictureJudge(
            TurnJudge(self._reasoning, state["session"], run.cancel), vocabulary=self._generator.capabilities.vocabulary
        )
        try:
            score = judge.score({"type": "image", "file_id": name}, caption)
            verdict = verdict_of(score) if self._reasoning.sees else verdict
        except GenerationCancelledError:
            pass  # the turn ends without a verdict, and says that it was cancelled
        except ContextOverflowError as error:
            notices = [f"The picture could not be judged. {error}"]
        if verdict.answer and verdict.follows is None and not run.cancel.is_set():
            notices = [f"The reasoner's verdict on the picture could not be read: {verdict.answer.strip()[:80]!r}."]
        emit(LookedAt(result["call_id"], name, verdict.follows, verdict.score, verdict.problem))
        return verdict, notices

    def _answer(self, state: TurnState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
        return self._answered(state, state["results"], runtime.context)

    def _answered(self, state: TurnState, results: list[dict[str, Any]], run: TurnContext) -> dict[str, Any]:
        """Return the tool results for the reasoner, and the records of the pictures and failures."""
        pictures, failures, messages = [], [], []
        for result in results:
            chosen = _best(result["attempts"])
            if chosen is None:
                prompt = result["request"]["prompt"] if result["request"] else ""
                message = result["error"] or "There is no picture."
                failures.append({"call_id": result["call_id"], "prompt": prompt, "message": message})
            else:
                pictures.append(
                    {name: chosen[name] for name in ("artifact", "prompt")} | {"call_id": result["call_id"]}
                )
            messages.append(to_record(_tool_message(result, chosen)))
        return {
            "messages": messages,
            "calls": [],
            "results": [],
            "pictures": pictures,
            "failures": failures,
            "outcome": run.why if run.cancel.is_set() else self._end(state, results, bool(pictures)),
        }

    def _end(self, state: TurnState, results: list[dict[str, Any]], has_drawn: bool) -> TurnOutcome | None:
        """Return the outcome of the turn, or None if the reasoner continues."""
        if not state["num_rounds"]:
            return "answered"  # the user requested the pictures, not the reasoner
        was_limited = any(result.get("limit") for result in results)
        if not self._settings.answer_tools:
            return "max_pictures" if was_limited else "answered"
        if was_limited and not has_drawn:
            return "max_pictures"
        return "max_rounds" if state["num_rounds"] >= self._settings.max_rounds else None


def _after_draw(state: TurnState) -> str:
    """Go to `look` if the calls are not answered yet; otherwise end the turn or call the reasoner again."""
    if state["results"]:
        return "look"
    return END if state["outcome"] else "reason"


def _draw_or_answer(state: TurnState) -> str:
    return "draw" if state["calls"] else "answer"


def _again(result: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """Return the call that redraws a picture, with the improved caption and another seed."""
    num_attempts = len(result["attempts"])
    request = ImageRequest.model_validate(result["request"])
    changes = {"seed": ((request.seed or 0) + num_attempts) % 2**63}
    improved = ImageRequest.model_validate(
        request.model_dump() | changes | {"prompt": verdict.caption[:10_000] or request.prompt}
    )
    return {
        "call_id": result["call_id"],
        "key": f"{result['key']}.{num_attempts}",
        "request": improved.model_dump(mode="json"),
    }


def _best(attempts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best picture: first those that match the caption, then by score, then the latest."""
    ranked = sorted(attempts, key=lambda attempt: (attempt.get("follows") is not False, attempt.get("score") or 0.0))
    return ranked[-1] if ranked else None


def _tool_message(result: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> ToolMessage:
    if chosen is None:
        return ToolMessage(
            content=f"Not drawn: {result['error']}", tool_call_id=result["call_id"], name=DRAW_TOOL_NAME, status="error"
        )
    said = f"Drawn: {chosen['artifact']}, {chosen['width']}x{chosen['height']} pixels."
    if chosen["prompt"] != result["request"]["prompt"]:
        said += f" Caption: {chosen['prompt']}"
    for notice in (*result.get("notices", ()), *chosen["notices"]):
        said += f" {notice}"
    if chosen.get("problem") and chosen.get("follows") is False:
        said += f" It does not quite follow the caption: {chosen['problem']}"
    return ToolMessage(
        content=[{"type": "text", "text": said}, {"type": "image", "file_id": chosen["artifact"]}],
        tool_call_id=result["call_id"],
        name=DRAW_TOOL_NAME,
    )


def _ending(answer: Answer) -> TurnOutcome:
    return "refused" if answer.finish_reason in ("refusal", "content_filter") else "answered"
