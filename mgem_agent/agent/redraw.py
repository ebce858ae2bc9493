"""Plan the next drawing of a picture that failed its caption, by the strategy of a look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mgem_agent.scoring.picture_score import PictureScore
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.look import Look

__all__ = ["best_attempt", "next_request", "other_seeds", "useless_redraw"]

MAX_PROMPT_CHARS = 10_000


def best_attempt(scores: Sequence[float | None]) -> int:
    """Return the place of the best attempt: the highest score, the earliest of equals, never one below the first.

    Args:
        scores: Scores of the attempts in order; None for one that was not judged, which never replaces another.
    """
    best = 0
    for place, score in enumerate(scores):
        known = scores[best]
        if score is not None and known is not None and score > known:
            best = place
    return best


def other_seeds(request: ImageRequest, num: int, capabilities: Capabilities) -> list[ImageRequest]:
    """Return variants of a request for `best_of_n`: the same caption with other seeds.

    Args:
        request: The first request.
        num: Number of variants.
        capabilities: What the generator supports. One that always draws the same picture gets no variants.
    """
    if capabilities.is_deterministic:
        return []
    return [request.model_copy(update={"seed": _seed(request, place)}) for place in range(1, num + 1)]


def next_request(
    tried: Sequence[ImageRequest],
    picture: str,
    score: PictureScore,
    look: Look,
    capabilities: Capabilities,
    better_caption: Callable[[str, PictureScore], str],
) -> ImageRequest | None:
    """Return the request of the next attempt; None if it would give the same picture again.

    Args:
        tried: The requests so far, as they were asked for; the first has the original caption.
        picture: Id of the best picture so far.
        score: Its score.
        look: How pictures are looked at.
        capabilities: What the generator supports.
        better_caption: Rewrites a caption from what failed.
    """
    first = tried[0]
    if look.strategy == "edit" and "edit" in capabilities.tasks:
        instruction = f"Correct this picture so that it shows: {first.prompt.rstrip('.')}. {score.what_is_wrong}."
        seed = _seed(first, len(tried)) if capabilities.seed else None
        return ImageRequest(prompt=instruction[:MAX_PROMPT_CHARS], task="edit", image=picture, seed=seed)
    caption = first.prompt
    if look.strategy in ("revise", "edit"):
        caption = better_caption(first.prompt, score)
    elif look.strategy == "auto":
        caption = score.caption or first.prompt
    caption = caption[:MAX_PROMPT_CHARS]
    is_new = caption not in [request.prompt for request in tried]
    # A new caption keeps the seed if it is to be the only change.
    seed = first.seed if look.strategy == "revise" and is_new else _seed(first, len(tried))
    request = ImageRequest.model_validate(first.model_dump() | {"prompt": caption, "seed": seed})
    known = {_drawn_caption(each, capabilities) for each in tried}
    is_same = capabilities.is_deterministic and _drawn_caption(request, capabilities) in known
    return None if is_same else request


def useless_redraw(generator: str) -> str:
    """Return the notice about a picture that is not drawn again because it would be the same."""
    return f"{generator} draws the same picture for the same caption, so it was not drawn again."


def _drawn_caption(request: ImageRequest, capabilities: Capabilities) -> str:
    """Return the caption that the generator draws, in its vocabulary if it has one."""
    if capabilities.vocabulary is None or request.task == "edit":
        return request.prompt
    return capabilities.vocabulary.adapt(request.prompt).prompt


def _seed(request: ImageRequest, place: int) -> int:
    return ((request.seed or 0) + place) % 2**63
