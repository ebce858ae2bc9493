"""How the two images, the patches and the windows of patch info mining fit together.

A picture is seen twice. The low-resolution (LR) image is cut into ``image_grid``² crops of ``low_res_size`` pixels
(one, for the standard models), each becoming n×n visual tokens, n = ``low_res_size / patch_size``. The
high-resolution (HR) image becomes ConvNeXt feature maps, the finest at 1/4 of its size. Every visual token has its own
window of M×M pixels of that finest map, and attends only to it (paper, section 3.2).

=====================  ========  ==========  =======  =====  =============
models                 LR image  HR image    tokens   M      grid, global
=====================  ========  ==========  =======  =====  =============
ablations              224       512 or 768  256      8, 12  1, no
baselines              224, 336  none        256, 576         1, no
MGM-2B to MGM-34B      336       768         576      8      1, no
the HD models          672       1536        2880     8      2, yes
=====================  ========  ==========  =======  =====  =============
"""

from __future__ import annotations

from dataclasses import dataclass

from mgem_agent.errors import GeometryError

__all__ = ["FINEST_STRIDE", "MAX_SIDE_PX", "VisualGeometry"]

FINEST_STRIDE = 4
"""Pixels of the HR image per pixel of the finest ConvNeXt map (its stem is a 4×4 patch embedding)."""

MAX_SIDE_PX = 8192
"""Longest side of what an encoder reads, in pixels: five times that of the largest published model."""


@dataclass(frozen=True)
class VisualGeometry:
    """The image sizes of one configuration, checked for consistency.

    Args:
        low_res_size: Side of the image that the LR encoder takes, in pixels.
        patch_size: Side of the LR encoder's patch, in pixels.
        high_res_size: Side of the HR image, in pixels; None for a model without one, which mines nothing.
        image_grid: Crops per side that the LR image is cut into; 1 means the image itself.
        image_global: Whether the full picture, scaled down to one crop, is also seen.
        num_reader_tokens: Tokens of what a reader says about the picture; 0 without a reader.

    Raises:
        GeometryError: If a size is not divisible as mining requires.

    Examples:
        >>> hd = VisualGeometry(low_res_size=336, patch_size=14, high_res_size=1536, image_grid=2, image_global=True)
        >>> hd.num_image_tokens, hd.window_size, hd.low_res_input_size
        (2880, 8, 672)
    """

    low_res_size: int
    patch_size: int
    high_res_size: int | None
    image_grid: int = 1
    image_global: bool = False
    num_reader_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("low_res_size", "patch_size", "high_res_size", "image_grid"):
            size: int | None = getattr(self, name)
            if size is not None and size < 1:
                raise GeometryError(f"{name} must be at least 1, got {size}.")
        for name, side in (
            ("high_res_size", self.high_res_size or 0),
            ("low_res_size", self.low_res_size * self.image_grid),
        ):
            if side > MAX_SIDE_PX:
                raise GeometryError(f"{name} is {side:,} px with all crops; at most {MAX_SIDE_PX:,} px are allowed.")
        if self.low_res_size % self.patch_size:
            raise GeometryError(
                f"The LR image of {self.low_res_size} px is not a whole number of patches of {self.patch_size} px. "
                f"Use a multiple of {self.patch_size}."
            )
        unit = FINEST_STRIDE * self.tokens_per_side * self.image_grid
        if self.high_res_size is not None and self.high_res_size % unit:
            lower = self.high_res_size // unit * unit
            allowed = " or ".join(str(size) for size in (lower, lower + unit) if size)
            raise GeometryError(
                f"The HR image of {self.high_res_size} px gives a 1/{FINEST_STRIDE}-scale map that does not divide "
                f"into {self.tokens_per_side * self.image_grid}×{self.tokens_per_side * self.image_grid} windows. "
                f"Use a multiple of {unit} px, such as {allowed}."
            )

    @property
    def tokens_per_side(self) -> int:
        """Visual tokens along one side of a crop: n."""
        return self.low_res_size // self.patch_size

    @property
    def num_crops(self) -> int:
        """Images that the LR encoder sees for one picture: the crops, and the global image if enabled."""
        return self.image_grid**2 + int(self.image_global)

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens of one picture: what mining and the projector give."""
        return self.num_crops * self.tokens_per_side**2

    @property
    def num_image_tokens(self) -> int:
        """Tokens of one picture in the language model's input: its visual tokens and those of a reader."""
        return self.num_visual_tokens + self.num_reader_tokens

    @property
    def low_res_input_size(self) -> int:
        """Side of ``pixel_values`` in pixels: the LR image before it is cut into crops."""
        return self.low_res_size * self.image_grid

    @property
    def window_size(self) -> int:
        """Side of a token's window in the finest HR map, in pixels of that map: M; 0 without an HR image."""
        return (self.high_res_size or 0) // (FINEST_STRIDE * self.tokens_per_side * self.image_grid)
