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
from contextlib import suppress
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
from mgem_agent.agent.events import AgentNotice, CaptionReady, TextPiece, TurnOutcome
from mgem_agent.agent.looking import TurnLooking, is_judged
from mgem_agent.agent.messages import from_records, store_pictures, to_record
from mgem_agent.agent.reasoning import Answer, Reasoning
from mgem_agent.agent.redraw import best_attempt, other_seeds, useless_redraw
from mgem_agent.agent.turn_context import TurnContext
from mgem_agent.agent.turn_state import TurnState
from mgem_agent.artifacts.artifact import PictureAttempt
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError, ContextOverflowError, MgemError
from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME
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
        before = run.meter.spent
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
                meter=run.meter,
            )
        except (BudgetExceededError, ContextOverflowError) as error:
            if not state["num_rounds"]:
                raise  # nothing has happened yet in this turn
            emit(AgentNotice(str(error)))
            outcome = "budget" if isinstance(error, BudgetExceededError) else "answered"
            return {"calls": [], "results": [], "outcome": outcome, "notices": [str(error)]}
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
            "cost": (run.meter.spent - before).record(),
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
                result |= {"error": f"A turn draws at most {limit} picture(s); this one was not drawn."}
                result["limit"] = "max_pictures"
            elif call.request is not None:
                key = f"{state['num_rounds']}.{place}"
                calls.append({"call_id": call.id, "key": key, "request": call.request})
                result["key"] = key
            results.append(result)
        return calls, results

    def _after_reason(self, state: TurnState) -> str:
        if state["outcome"] in ("cancelled", "timeout", "budget"):
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
        before = run.meter.spent
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
            run.meter,
        )
        calls, notices = self._with_variants(state)
        for notice in notices:
            runtime.stream_writer(AgentNotice(notice))
        found = drawing.run(calls)
        run.drawing = None
        run.check()
        results = [_with_attempts(result, calls, found) for result in state["results"]]
        done = {
            "calls": [],
            "results": results,
            "num_drawn": state["num_drawn"] + sum("error" not in new for new in found.values()),
            "seconds": time.monotonic() - started,
            "cost": (run.meter.spent - before).record(),
            "notices": notices,
        }
        # Each step costs a checkpoint, so the calls are answered in this step if no look follows.
        return done if self._wants_look(state, results, run) else done | self._answered(state, results, run)

    def _with_variants(self, state: TurnState) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the calls, for `best_of_n` each with its variants, and a notice if there can be none."""
        calls, look = state["calls"], self._settings.look
        if not look or look.strategy != "best_of_n" or not state["num_rounds"] or not self._reasoning.sees:
            return calls, []
        capabilities = self._generator.capabilities
        if capabilities.is_deterministic:
            return calls, [useless_redraw(self._generator.name)]
        left = self._settings.max_pictures - state["num_drawn"] - len(calls)
        variants: list[dict[str, Any]] = []
        for place in range(1, look.max_redraws + 1):
            for call in calls[: max(left - len(variants), 0)]:
                first = ImageRequest.model_validate(call["request"])
                request = other_seeds(first, place, capabilities)[-1].model_dump(mode="json")
                variants.append({**call, "key": f"{call['key']}.{place}", "request": request})
        return [*calls, *variants], []

    def _wants_look(self, state: TurnState, results: list[dict[str, Any]], run: TurnContext) -> bool:
        unseen = any(not all(map(is_judged, result["attempts"])) for result in results)
        # Pictures that the user requested directly are not judged.
        return bool(self._settings.look and state["num_rounds"] and unseen and not run.cancel.is_set())

    def _look(self, state: TurnState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
        started = time.monotonic()
        run = runtime.context
        before = run.meter.spent
        looking = TurnLooking(self._reasoning, self._generator, self._settings, state, run, runtime.stream_writer)
        results = [looking.result(result) for result in state["results"]]
        return {
            "calls": looking.calls,
            "results": results,
            "seconds": time.monotonic() - started,
            "cost": (run.meter.spent - before).record(),
            "notices": looking.notices,
        }

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
                picture = _picture(result, chosen)
                self._note_attempts(picture)
                pictures.append(picture)
            messages.append(to_record(_tool_message(result, chosen)))
        return {
            "messages": messages,
            "calls": [],
            "results": [],
            "pictures": pictures,
            "failures": failures,
            "outcome": run.why if run.cancel.is_set() else self._end(state, results, bool(pictures)),
        }

    def _note_attempts(self, picture: Mapping[str, Any]) -> None:
        """Write what was tried for a picture into its record."""
        tried = [
            PictureAttempt(
                picture=each["artifact"], prompt=each["prompt"], score=each["score"], problem=each["problem"] or ""
            )
            for each in picture.get("attempts", ())
        ]
        if tried:
            with suppress(MgemError):  # such as a full disk; the record of the turn has them, too
                self._store.note_attempts(picture["artifact"], tried)

    def _end(self, state: TurnState, results: list[dict[str, Any]], has_drawn: bool) -> TurnOutcome | None:
        """Return the outcome of the turn, or None if the reasoner continues."""
        limit: TurnOutcome | None = next((result["limit"] for result in results if result.get("limit")), None)
        if not state["num_rounds"]:
            return limit or "answered"  # the user requested the pictures, not the reasoner
        if not self._settings.answer_tools:
            return limit or "answered"
        if limit and not has_drawn:
            return limit
        return "max_rounds" if state["num_rounds"] >= self._settings.max_rounds else None


def _after_draw(state: TurnState) -> str:
    """Go to `look` if the calls are not answered yet; otherwise end the turn or call the reasoner again."""
    if state["results"]:
        return "look"
    return END if state["outcome"] else "reason"


def _draw_or_answer(state: TurnState) -> str:
    return "draw" if state["calls"] else "answer"


def _with_attempts(
    result: dict[str, Any], calls: list[dict[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a result entry with the new drawings of its call. If a redraw fails, the first picture is kept."""
    own = [
        (call, found[call["key"]]) for call in calls if call["call_id"] == result["call_id"] and call["key"] in found
    ]
    if not own:
        return result
    drawn = [{**new, "asked": call["request"]} for call, new in own if "error" not in new]
    attempts = [*result["attempts"], *drawn]
    if attempts:
        return {**result, "attempts": attempts, "error": None}
    failed = own[0][1]
    return {**result, "error": failed["error"]} | ({"limit": failed["limit"]} if "limit" in failed else {})


def _best(attempts: list[dict[str, Any]]) -> dict[str, Any] | None:
    return attempts[best_attempt([attempt.get("score") for attempt in attempts])] if attempts else None


def _picture(result: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a picture, with its attempts if they were looked at."""
    picture = {"artifact": chosen["artifact"], "prompt": chosen["prompt"], "call_id": result["call_id"]}
    names = ("artifact", "prompt", "follows", "score", "problem", "answers")
    judged = [{name: attempt[name] for name in names} for attempt in result["attempts"] if is_judged(attempt)]
    return picture | ({"attempts": judged} if judged else {})


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
