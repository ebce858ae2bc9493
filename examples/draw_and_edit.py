"""Draws a picture, changes it, and shows where the second one came from.

nano follows no instruction: it starts from the picture, with the whole caption. A generator that edits does more:
`python examples/draw_and_edit.py openai:gpt-image-2`
"""

import sys

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.tools import EditRequest, ImageRequest, ImageResult, draw, edit_image, make_generator


def main(generator_name: str = "nano", store: ArtifactStore | None = None) -> tuple[str, str]:
    """Draw, edit, and return the ids of both pictures."""
    store = store or ArtifactStore()
    generator = make_generator(generator_name)

    events = draw(generator, [ImageRequest(prompt="a fox in a forest", seed=7)])  # progress, then the result
    [first] = [event for event in events if isinstance(event, ImageResult)]
    if first.error:
        raise first.error
    picture = store.put(first)
    print("drawn:", store.path(picture.id))

    edit = EditRequest(
        instruction="at night",
        image=picture.id,
        original=first.executed,
        fallbacks=("image_to_image", "redraw"),  # what may be done where the generator obeys no instruction
    )
    edited = edit_image(generator, edit, pictures={picture.id: store.open(picture.id)})
    if edited.result.error:
        raise edited.result.error
    changed = store.put(edited.result)
    print(f"changed by {edited.way}:", store.path(changed.id))
    for notice in edited.result.notices:
        print("notice:", notice.message)
    return picture.id, changed.id


if __name__ == "__main__":
    main(*sys.argv[1:2])
