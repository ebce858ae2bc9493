"""The images API, by the openai SDK over a real connection."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImagesResponse
from openai.types.image_edit_stream_event import ImageEditStreamEvent
from openai.types.image_gen_stream_event import ImageGenStreamEvent
from PIL import Image
from pydantic import TypeAdapter

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.server import picture_fetch
from mgem_agent.server.security import LOCAL_USER
from mgem_agent.server.service import AgentService
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.image_result import ImageResult
from mgem_agent.tools.image_usage import ImageUsage
from mgem_agent.tools.servers.web_address import PublicAddresses

GEN_EVENT: TypeAdapter[Any] = TypeAdapter(ImageGenStreamEvent)
EDIT_EVENT: TypeAdapter[Any] = TypeAdapter(ImageEditStreamEvent)


def png(colour: str = "red", size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def decoded(text: str | None) -> Image.Image:
    assert text is not None
    return load_image(base64.b64decode(text))


def checked(response: ImagesResponse) -> list[Any]:
    """Validate a response strictly, which the SDK itself does not."""
    ImagesResponse.model_validate(response.model_dump())
    assert response.data
    return list(response.data)


@pytest.fixture
def generator() -> FlatColourGenerator:
    return FlatColourGenerator(size=(64, 48), num_steps=4)


@pytest.fixture
def service(open_service: Callable[..., AgentService], generator: FlatColourGenerator) -> AgentService:
    return open_service(generator=generator, model_aliases={"gpt-image-1": "flat"})


@pytest.fixture
def address(service: AgentService, running: Any) -> Iterator[str]:
    with running(service) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_a_picture_with_its_seed_and_its_id(
    client: openai.OpenAI, generator: FlatColourGenerator, service: AgentService
) -> None:
    response = client.images.generate(prompt="a red fox", model="flat", size="96x80", extra_body={"seed": 7})
    [item] = checked(response)
    assert decoded(item.b64_json).size == (96, 80)
    assert (response.size, response.output_format, response.usage) == ("96x80", "png", None)
    assert (item.model_extra["seed"], item.model_extra["notices"], item.revised_prompt) == (7, [], None)
    assert [(each.prompt, each.seed) for each in generator.drawn] == [("a red fox", 7)]
    [artifact] = service.store(LOCAL_USER).list()
    assert artifact.id == item.model_extra["id"]
    assert service.store(LOCAL_USER).path(artifact.id).read_bytes() == base64.b64decode(item.b64_json)


def test_several_pictures_have_the_next_seeds_and_are_one_batch(
    client: openai.OpenAI, generator: FlatColourGenerator
) -> None:
    items = checked(client.images.generate(prompt="a fox", n=3, extra_body={"seed": 5}))
    assert [item.model_extra["seed"] for item in items] == [5, 6, 7]
    assert generator.num_batches == 1
    items = checked(client.images.generate(prompt="a fox", n=3))
    assert len({item.b64_json for item in items}) == 3


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats(client: openai.OpenAI, kind: Any, name: str) -> None:
    sizes = []
    for quality in (100, 10):
        response = client.images.generate(prompt="a fox", output_format=kind, output_compression=quality)
        data = base64.b64decode(checked(response)[0].b64_json)
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == (name, (64, 48))
        sizes.append(len(data))
    assert sizes[1] < sizes[0]


def test_a_url_leads_to_the_picture(client: openai.OpenAI) -> None:
    [item] = checked(client.images.generate(prompt="a fox", response_format="url"))
    assert item.b64_json is None
    answer = httpx.get(item.url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert load_image(answer.content).size == (64, 48)


def test_what_a_generator_does_not_have_is_a_notice_or_an_error(client: openai.OpenAI) -> None:
    [item] = checked(client.images.generate(prompt="a fox", quality="high", style="vivid", background="opaque"))
    assert item.model_extra["notices"] == [
        "flat has no quality; it was left out.",
        "flat has no style; it was left out.",
    ]
    with pytest.raises(openai.BadRequestError, match="does not support background='transparent'") as caught:
        client.images.generate(prompt="a fox", background="transparent")
    assert (caught.value.param, caught.value.code) == ("background", "unsupported_parameter")


def test_an_option_of_the_generator_is_passed_on(open_service: Any, running: Any) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"options": frozenset({"quality", "background"})})
    generator = FlatColourGenerator(size=(32, 32), capabilities=able)
    with (
        running(open_service(generator=generator)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused") as client,
    ):
        checked(client.images.generate(prompt="a fox", quality="low", background="transparent"))
    assert generator.drawn[0].options == {"quality": "low", "background": "transparent"}


@pytest.mark.parametrize(
    ("given", "message", "param"),
    [
        ({"size": "1024"}, "size='1024' is not valid. Give 'auto', or WIDTHxHEIGHT", "size"),
        ({"size": "8x8"}, "each from 16 to 8192", "size"),
        ({"n": 11}, "n=11 is not valid", "n"),
        ({"output_format": "svg"}, "output_format='svg' is not supported", "output_format"),
        ({"output_compression": 50}, "does not apply to PNG", "output_compression"),
        ({"response_format": "url", "output_format": "webp"}, "Pictures at an address are PNG", "output_format"),
        ({"partial_images": 4}, "partial_images=4 is not valid", "partial_images"),
        ({"extra_body": {"steps": 4}}, "There is no field 'steps'. Known fields: background,", "steps"),
        ({"extra_body": {"strength": 0.5}}, "Send the request to /v1/images/edits", "strength"),
        ({"prompt": ""}, "prompt='' is not valid", "prompt"),
        ({"extra_body": {"svg": {"model": "x"}}}, "svg is not supported", "svg"),
    ],
)
def test_what_is_not_valid_is_named(client: openai.OpenAI, given: Any, message: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"prompt": "a fox", **given})
    assert message in str(caught.value)
    assert caught.value.param == param


def test_models_are_those_of_the_server_and_its_aliases(client: openai.OpenAI) -> None:
    checked(client.images.generate(prompt="a fox", model="gpt-image-1"))
    with pytest.raises(openai.NotFoundError, match="no image generator 'dall-e-3'. Available: flat") as caught:
        client.images.generate(prompt="a fox", model="dall-e-3")
    assert """server.model_aliases '{"dall-e-3" = "flat"}'""" in str(caught.value)


def test_a_body_that_is_no_object(address: str) -> None:
    for body in (b"", b"[]", b"{", b"[" * 100_000):
        answer = httpx.post(f"{address}/v1/images/generations", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("The body is")


def test_one_failure_leaves_the_others(open_service: Any, running: Any) -> None:
    class Picky(FlatColourGenerator):
        def generate(self, requests: Any, **options: Any) -> Any:
            self._fail_on = "fox" if len(self.drawn) == 1 else None
            return super().generate(requests, **options)

    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 1})
    with (
        running(open_service(generator=Picky(size=(32, 32), capabilities=able))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client,
    ):
        response = client.images.generate(prompt="a fox", n=2)
        assert len(checked(response)) == 1
        assert response.model_extra is not None
        assert "came out blank" in response.model_extra["failures"][0]


def test_a_failure_is_an_error(open_service: Any, running: Any) -> None:
    with (
        running(open_service(generator=FlatColourGenerator(fail_on="fox"))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.APIStatusError, match="came out blank") as caught,
    ):
        client.images.generate(prompt="a fox")
    assert (caught.value.status_code, caught.value.code) == (502, "generator_failed")


def test_streamed_partial_pictures_then_the_picture(client: openai.OpenAI) -> None:
    events = list(client.images.generate(prompt="a fox", stream=True, partial_images=2, output_format="webp"))
    for event in events:
        GEN_EVENT.validate_python(event.model_dump())
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    assert [decoded(event.b64_json).size for event in events] == [(64, 48)] * 3
    assert {event.size for event in events} == {"64x48"}


def test_a_stream_that_fails_at_once_has_a_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a fox", model="other", stream=True)


def test_a_stream_that_fails_later_ends_with_an_error(open_service: Any, running: Any) -> None:
    with (
        running(open_service(generator=FlatColourGenerator(size=(32, 32), fail_on="fox"))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.APIError, match="came out blank"),
    ):
        list(client.images.generate(prompt="a fox", stream=True, partial_images=1))


def test_edits_of_uploaded_pictures(client: openai.OpenAI, generator: FlatColourGenerator) -> None:
    response = client.images.edit(
        image=[("a.png", png("red")), ("b.png", png("blue"))],
        prompt="make it night",
        n=2,
        size="auto",
        extra_body={"seed": 3},
    )
    assert len(checked(response)) == 2
    assert [(each.task, each.prompt, each.seed, len(each.references)) for each in generator.drawn] == [
        ("edit", "make it night", 3, 1),
        ("edit", "make it night", 4, 1),
    ]


def test_a_mask_is_redrawn_where_it_is_transparent(
    client: openai.OpenAI, generator: FlatColourGenerator, service: AgentService
) -> None:
    mask = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 16, 32))
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    checked(client.images.edit(image=("a.png", png()), mask=("m.png", buffer.getvalue()), prompt="a moon"))
    [request] = generator.drawn
    assert (request.task, request.prompt) == ("inpaint", "a moon")
    stored = service.store(LOCAL_USER).open(str(request.mask))
    assert (stored.getpixel((2, 2)), stored.getpixel((30, 2))) == ((255, 255, 255), (0, 0, 0))


def test_a_mask_without_transparency_is_white_where_it_is_redrawn(
    client: openai.OpenAI, generator: FlatColourGenerator, service: AgentService
) -> None:
    checked(client.images.edit(image=("a.png", png()), mask=("m.png", png("white")), prompt="a moon"))
    assert service.store(LOCAL_USER).open(str(generator.drawn[0].mask)).getpixel((2, 2)) == (255, 255, 255)


def test_a_generator_without_inpainting_refuses_a_mask(open_service: Any, running: Any) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"tasks": frozenset({"text_to_image", "image_to_image"})})
    with (
        running(open_service(generator=FlatColourGenerator(size=(32, 32), capabilities=able))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="task='inpaint' is not supported"):
            client.images.edit(image=("a.png", png()), mask=("m.png", png()), prompt="a moon")
        [item] = checked(client.images.edit(image=("a.png", png()), prompt="a moon"))
        assert item.model_extra["notices"][0].startswith("flat does not support 'edit'; 'image_to_image' was used")
        with pytest.raises(openai.BadRequestError, match="input_fidelity='high'"):
            client.images.edit(image=("a.png", png()), prompt="a moon", input_fidelity="high")


def test_a_picture_of_this_server_can_be_redrawn_by_a_generator_that_only_draws(
    open_service: Any, running: Any
) -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(
        update={"tasks": frozenset({"text_to_image"}), "max_references": 0}
    )
    generator = FlatColourGenerator(size=(32, 32), capabilities=able)
    with (
        running(open_service(generator=generator)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client,
    ):
        [first] = checked(client.images.generate(prompt="a fox", extra_body={"seed": 9}))
        [second] = checked(client.images.edit(image=("a.png", base64.b64decode(first.b64_json)), prompt="at night"))
        assert (second.revised_prompt, second.model_extra["seed"]) == ("a fox. at night", 9)
        with pytest.raises(openai.BadRequestError, match="It needs `original`"):
            client.images.edit(image=("a.png", png()), prompt="at night")


def test_edits_in_json_by_data_url_id_and_address(address: str, generator: FlatColourGenerator) -> None:
    url = f"{address}/v1/images/edits"
    given = {"prompt": "at night", "images": [{"image_url": data_url(png())}]}
    first = httpx.post(url, json=given).json()
    ImagesResponse.model_validate(first)
    name = first["data"][0]["id"]
    for named in (name, {"file_id": name}, f"{address}/pictures/{name}"):
        assert httpx.post(url, json={"prompt": "at dawn", "image": named}).status_code == 200
        assert generator.drawn[-1].image == name
    for named, message in (
        ("img-000000000000", "no picture"),
        ("/etc/passwd", "not given as data"),
        ("http://10.0.0.1/a.png", "does not fetch pictures from the web"),
        ({"image_url": "https://example.com/a.png"}, "server.allow_urls true"),
        ({"image_url": "x", "file_id": "y"}, "2 addresses"),
        (7, "is a 'int'"),
        (data_url(b"no picture"), "picture"),
        (None, "0 pictures were sent"),
    ):
        answer = httpx.post(url, json={"prompt": "at dawn", "image": named})
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]


def test_edits_in_json_by_an_address_on_the_web_if_that_is_allowed(
    open_service: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = FlatColourGenerator(size=(32, 32))
    service, other = open_service(generator=generator, allow_urls=True), open_service()
    stored = other.store(LOCAL_USER).put_picture(Image.new("RGB", (8, 6), "red"), origin="red")
    with running(service) as address, running(other) as web, httpx.Client(timeout=30) as client:
        url = f"{address}/v1/images/edits"
        there = f"{web}/gallery/{stored.id}/download"
        refused = client.post(url, json={"prompt": "at dawn", "image": {"image_url": there}})
        assert refused.status_code == 400 and "cannot be fetched" in refused.text  # it is a private address
        monkeypatch.setattr(picture_fetch, "NO_OWN_SERVER", PublicAddresses("127.0.0.1", httpx.URL(web).port or 0))
        given = {"prompt": "at dawn", "image": {"image_url": there}, "mask": {"image_url": there}}
        assert client.post(url, json=given).status_code == 200
    assert generator.drawn[-1].task == "inpaint" and generator.drawn[-1].image == stored.id


def test_the_tokens_that_a_server_counted(open_service: Any, running: Any) -> None:
    class Counted(FlatColourGenerator):
        """Cards with a usage, as from a server of the images API."""

        def generate(self, requests: Any, **options: Any) -> Any:
            for event in super().generate(requests, **options):
                is_result = isinstance(event, ImageResult)
                yield replace(event, usage=ImageUsage(5, 60, 272)) if is_result else event

    with running(open_service(generator=Counted(size=(16, 16)))) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="unused") as client:
            usage = client.images.generate(prompt="a red fox", n=2).usage
            assert usage is not None
            details = usage.input_tokens_details
            assert (usage.input_tokens, details.text_tokens, details.image_tokens) == (130, 10, 120)
            assert (usage.output_tokens, usage.total_tokens) == (544, 674)
            *_, last = client.images.generate(prompt="a red fox", stream=True)
            assert last.type == "image_generation.completed" and last.usage.total_tokens == 337


def test_forms_with_strange_parts(address: str) -> None:
    url = f"{address}/v1/images/edits"
    answer = httpx.post(url, data={"prompt": "x"}, files={"other": ("a.png", png())})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "other")
    answer = httpx.post(url, data={"prompt": "x"}, files=[("image[]", ("a.png", png()))] * 20)
    assert answer.status_code == 400
    answer = httpx.post(url, content=b"xyz", headers={"content-type": "multipart/form-data; boundary=q"})
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_streamed_edits(client: openai.OpenAI) -> None:
    events = list(client.images.edit(image=("a.png", png()), prompt="x", stream=True, partial_images=1))
    for event in events:
        EDIT_EVENT.validate_python(event.model_dump())
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


async def test_async_clients_at_once_each_get_their_own(address: str, generator: FlatColourGenerator) -> None:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client:

        async def ask(place: int) -> Any:
            return checked(await client.images.generate(prompt=f"fox {place}", extra_body={"seed": place}))[0]

        items = await asyncio.gather(*map(ask, range(8)))
    assert [item.model_extra["seed"] for item in items] == list(range(8))
    assert len({item.b64_json for item in items}) == 8
    assert generator.num_batches < 8


async def test_a_client_that_leaves_a_stream_stops_its_drawing(open_service: Any, running: Any) -> None:
    generator = FlatColourGenerator(size=(32, 32), num_steps=100, delay_s=5)
    service = open_service(generator=generator)
    with running(service) as address:
        async with (
            httpx.AsyncClient() as client,
            client.stream(
                "POST",
                f"{address}/v1/images/generations",
                json={"prompt": "a fox", "stream": True, "partial_images": 3, "num_inference_steps": 1000},
            ) as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    assert json.loads(line[5:])["type"] == "image_generation.partial_image"
                    break
        for _ in range(100):
            if not service.jobs.num_running:
                break
            await asyncio.sleep(0.02)
        assert service.jobs.num_running == 0
    assert generator.drawn == []
