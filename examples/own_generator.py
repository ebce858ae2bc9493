"""An image generator of your own: it draws circles in the colours that the prompt names.

As a package with an entry point it has a name everywhere, also in `mgem draw -g`: docs/guides/generator-plugin.md
"""

import random
import threading
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image, ImageColor, ImageDraw

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.errors import GeneratorRefusalError
from mgem_agent.tools import Capabilities, GenerationProgress, ImageRequest, ImageResult, draw, register_generator


class CirclesGenerator:
    """Draws circles in the colours of the prompt."""

    name = "circles"
    capabilities = Capabilities(seed=True, max_size=2048)

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw each request, or say why it cannot be drawn."""
        for index, request in enumerate(requests):
            seed = random.randrange(2**31) if request.seed is None else request.seed
            size = (request.width or 256, request.height or 256)
            executed = request.model_copy(update={"seed": seed, "width": size[0], "height": size[1]})
            colours = [word for word in request.prompt.lower().split() if word in ImageColor.colormap]
            yield ImageResult(
                index=index,
                request=request,
                executed=executed,
                generator=self.name,
                model="circles",
                image=_circles(size, colours, random.Random(seed)) if colours else None,
                error=None if colours else GeneratorRefusalError(f"{request.prompt!r} names no colour."),
                seconds=0.0,
            )

    def unload(self) -> None:
        """Nothing is held in memory."""


def _circles(size: tuple[int, int], colours: list[str], chance: random.Random) -> Image.Image:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for colour in colours * 4:
        x, y, radius = chance.randrange(size[0]), chance.randrange(size[1]), chance.randrange(10, 60)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def main(store: ArtifactStore | None = None) -> list[str]:
    """Draw two pictures with the generator, and return their ids."""
    store = store or ArtifactStore()
    register_generator("circles", lambda rest: CirclesGenerator())
    ids = []
    for result in draw(
        CirclesGenerator(), [ImageRequest(prompt="gold and teal", seed=1), ImageRequest(prompt="a fox")]
    ):
        if result.error:
            print("not drawn:", result.error)
        else:
            ids.append(store.put(result).id)
            print("drawn:", store.path(ids[-1]))
    return ids


if __name__ == "__main__":
    main()
