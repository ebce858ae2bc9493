import pytest

from mgem_agent.errors import UnsupportedRequestError
from mgem_agent.tools.capabilities import Capabilities, negotiate, with_start_size
from mgem_agent.tools.image_request import ImageRequest

FULL = ImageRequest(
    prompt="a fox", task="image_to_image", image="img-1", strength=0.4, negative_prompt="blurry", seed=7,
    num_inference_steps=20, guidance_scale=5.0, width=1000, height=500,
)  # fmt: skip


def test_what_only_steers_is_left_out_with_a_notice() -> None:
    able = Capabilities(tasks={"image_to_image"}, size_multiple=64)
    fitted, notices = negotiate(FULL, able, generator="toy")
    assert {notice.argument for notice in notices} == {
        "negative_prompt", "seed", "num_inference_steps", "guidance_scale", "strength", "width", "height",
    }  # fmt: skip
    assert (fitted.width, fitted.height) == (1024, 512)
    assert fitted.seed is fitted.negative_prompt is fitted.strength is None
    assert "toy does not support a width of 1000; 1024 was used." in [notice.message for notice in notices]


def test_strict_refuses_instead() -> None:
    with pytest.raises(UnsupportedRequestError, match="toy does not support seed") as caught:
        negotiate(ImageRequest(prompt="x", seed=1), Capabilities(), generator="toy", strict=True)
    assert caught.value.arguments == ("seed",)


def test_what_can_be_done_stays_untouched() -> None:
    able = Capabilities(
        tasks={"image_to_image"}, negative_prompt=True, seed=True, num_inference_steps=True, guidance_scale=True,
        strength=True,
    )  # fmt: skip
    assert negotiate(FULL, able, generator="toy", strict=True) == (FULL, ())


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((1000, 1000), (1024, 1024)),
        ((1600, 900), (1536, 1024)),
        ((300, 900), (1024, 1536)),
        ((512, None), (1024, 1024)),
    ],
)
def test_the_nearest_shape_of_a_fixed_list_is_drawn(asked: tuple[int, int | None], drawn: tuple[int, int]) -> None:
    able = Capabilities(sizes=((1024, 1024), (1536, 1024), (1024, 1536)))
    fitted, notices = negotiate(ImageRequest(prompt="x", width=asked[0], height=asked[1]), able, generator="toy")
    assert (fitted.width, fitted.height) == drawn
    assert notices


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"task": "edit", "image": "img-1"}, ("task",), "task='edit' is not supported; supported: text_to_image"),
        ({"references": ("a", "b")}, ("references",), r"2 reference picture\(s\) given; maximum: 0"),
        ({"options": {"clip_skp": 1}}, ("options",), "options 'clip_skp' are unknown; known: clip_skip"),
    ],
)
def test_what_changes_the_picture_is_refused(fields: dict[str, object], arguments: tuple[str], message: str) -> None:
    request = ImageRequest.model_validate({"prompt": "x", **fields})
    with pytest.raises(UnsupportedRequestError, match=message) as caught:
        negotiate(request, Capabilities(options={"clip_skip"}), generator="toy")
    assert caught.value.arguments == arguments


def test_the_reason_for_an_unsupported_task_is_given() -> None:
    able = Capabilities(unsupported={"edit": "Its two halves disagree."})
    with pytest.raises(UnsupportedRequestError) as raised:
        negotiate(ImageRequest(prompt="a fox", task="edit", image="a"), able, generator="g")
    assert str(raised.value) == (
        "Generator 'g' cannot do this: task='edit' is not supported; supported: text_to_image. Its two halves disagree."
    )


@pytest.mark.parametrize(
    ("sizes", "start", "asked", "drawn", "is_told"),
    [
        (((128, 128),), (256, 256), None, (128, 128), False),
        (((128, 128),), (80, 56), None, (128, 128), True),
        (((1024, 1024), (1536, 1024)), (1500, 1000), None, (1536, 1024), False),
        (((128, 128),), (80, 56), (128, 128), (128, 128), False),
        ((), (80, 56), None, (None, None), False),
    ],
)
def test_a_start_picture_gives_a_size_that_is_supported(sizes, start, asked, drawn, is_told) -> None:
    width, height = asked or (None, None)
    request = ImageRequest(prompt="x", task="image_to_image", image="img-1", width=width, height=height)
    fitted, notices = with_start_size(request, Capabilities(sizes=sizes), start)
    assert (fitted.width, fitted.height) == drawn
    assert [notice.argument for notice in notices] == (["image"] if is_told else [])
