import torch

from mgem_agent.core_model.token_extension import crops_to_raster, global_image, raster_to_crops, split_crops


def test_crops_are_in_raster_order_and_an_images_crops_together() -> None:
    images = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).float()
    crops = split_crops(images, 2)
    expected = [images[i, :, y : y + 2, x : x + 2] for i in range(2) for y in (0, 2) for x in (0, 2)]
    assert torch.equal(crops, torch.stack(expected))


def test_one_crop_is_the_image() -> None:
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(split_crops(images, 1), images)


def test_raster_puts_every_token_where_it_lies_in_the_picture() -> None:
    picture = torch.arange(2 * 6 * 6).reshape(2, 1, 6, 6).float()  # one value a token: 2×2 crops of 3×3 tokens
    tokens = split_crops(picture, 2).flatten(2).transpose(1, 2)  # (2·4, 9, 1)
    raster = crops_to_raster(tokens, 2, 3)
    assert torch.equal(raster, picture.flatten(2).transpose(1, 2))
    assert torch.equal(raster_to_crops(raster, 2, 3), tokens.reshape(2, 36, 1))


def test_global_image_is_interpolated_in_float32() -> None:
    images = torch.randn(1, 3, 8, 8)
    small = global_image(images, 2)
    # Half size without antialias: bilinear at the corner shared by four pixels is their mean.
    expected = images.reshape(1, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(small, expected)
    assert global_image(images.bfloat16(), 2).dtype == torch.bfloat16
