"""Requests of one batch that one call of the images API can draw together, as its field `n` allows."""

from __future__ import annotations

from collections.abc import Sequence

from mgem_agent.tools.image_request import ImageRequest

__all__ = ["group_requests"]


def group_requests(
    requests: Sequence[ImageRequest], *, max_n: int, honours_seeds: bool, has_consecutive_seeds: bool
) -> list[list[int]]:
    """Return the places of requests in groups, in order.

    Requests of a group differ in their seeds only. Where the server honours seeds, a group is formed only if the
    pictures of one call have consecutive seeds, and the requests ask for those, so that each record is true.

    Args:
        requests: The requests.
        max_n: Most pictures of one call.
        honours_seeds: Whether the server honours seeds.
        has_consecutive_seeds: Whether the pictures of one call have consecutive seeds.
    """
    groups: list[list[int]] = []
    for place, request in enumerate(requests):
        last = groups[-1] if groups else []
        fits = 0 < len(last) < max_n and _goes_with(requests[last[0]], request)
        if fits and honours_seeds:
            first = requests[last[0]].seed
            fits = has_consecutive_seeds and first is not None and request.seed == first + len(last)
        if fits:
            last.append(place)
        else:
            groups.append([place])
    return groups


def _goes_with(first: ImageRequest, other: ImageRequest) -> bool:
    return first.model_copy(update={"seed": None}) == other.model_copy(update={"seed": None})
