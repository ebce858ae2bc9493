"""Tells a story from a recipe, and writes it as a book: HTML, Markdown and PDF.

Everything is in the recipe, so that no reasoner is needed. Leave out texts or captions, and a reasoner writes them.
"""

import sys
from pathlib import Path

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.tools import make_generator
from mgem_agent.workflows import CharacterRecipe, SceneRecipe, StoryRecipe, Storyteller
from mgem_agent.workflows.book import BookFolder

RECIPE = StoryRecipe(
    title="The Owl and the Moon",
    style="simple bright picture, one clear subject",
    cast=[CharacterRecipe(name="Olga", looks="an owl")],
    scenes=[
        SceneRecipe(title="Awake", text="Olga wakes up when all others sleep.", caption="an owl in a forest"),
        SceneRecipe(title="A friend", text="She meets a mouse.", caption="an owl and a mouse"),
        SceneRecipe(title="Good night", text="In the morning Olga goes to bed.", caption="an owl under the moon"),
    ],
)


def main(generator_name: str = "nano", folder: str = "owl", store: ArtifactStore | None = None) -> Path:
    """Tell the story, and return the path of the HTML book."""
    store = store or ArtifactStore()
    story = Storyteller(None, make_generator(generator_name), store, folder=folder).run(RECIPE)
    book = BookFolder(folder, store).write(story)
    for path in book.files:
        print(path)
    return Path(folder) / "book.html"


if __name__ == "__main__":
    main(*sys.argv[1:3])
