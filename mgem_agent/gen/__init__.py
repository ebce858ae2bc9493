"""The `<GEN>` protocol: parse captions in a streamed answer, and turn them into tool calls."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.gen.events import (
        CaptionClosed,
        CaptionOpened,
        CaptionPiece,
        GenEvent,
        GenNotice,
        GenNoticeReason,
        TextPiece,
        captions,
        merged,
        notices,
        readable_text,
        visible_text,
    )
    from mgem_agent.gen.markup import (
        MAX_CAPTION_LENGTH,
        clean_caption,
        cut_caption,
        neutralize_tags,
        render_assistant_turn,
    )
    from mgem_agent.gen.parser import GenProtocolParser, parse
    from mgem_agent.gen.tool_calls import DRAW_TOOL_NAME, DrawCall, DrawMode

__all__ = [
    "DRAW_TOOL_NAME",
    "MAX_CAPTION_LENGTH",
    "CaptionClosed",
    "CaptionOpened",
    "CaptionPiece",
    "DrawCall",
    "DrawMode",
    "GenEvent",
    "GenNotice",
    "GenNoticeReason",
    "GenProtocolParser",
    "TextPiece",
    "captions",
    "clean_caption",
    "cut_caption",
    "merged",
    "neutralize_tags",
    "notices",
    "parse",
    "readable_text",
    "render_assistant_turn",
    "visible_text",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DRAW_TOOL_NAME": "mgem_agent.gen.tool_calls",
        "MAX_CAPTION_LENGTH": "mgem_agent.gen.markup",
        "CaptionClosed": "mgem_agent.gen.events",
        "CaptionOpened": "mgem_agent.gen.events",
        "CaptionPiece": "mgem_agent.gen.events",
        "DrawCall": "mgem_agent.gen.tool_calls",
        "DrawMode": "mgem_agent.gen.tool_calls",
        "GenEvent": "mgem_agent.gen.events",
        "GenNotice": "mgem_agent.gen.events",
        "GenNoticeReason": "mgem_agent.gen.events",
        "GenProtocolParser": "mgem_agent.gen.parser",
        "TextPiece": "mgem_agent.gen.events",
        "captions": "mgem_agent.gen.events",
        "clean_caption": "mgem_agent.gen.markup",
        "cut_caption": "mgem_agent.gen.markup",
        "merged": "mgem_agent.gen.events",
        "neutralize_tags": "mgem_agent.gen.markup",
        "notices": "mgem_agent.gen.events",
        "parse": "mgem_agent.gen.parser",
        "readable_text": "mgem_agent.gen.events",
        "render_assistant_turn": "mgem_agent.gen.markup",
        "visible_text": "mgem_agent.gen.events",
    },
)
