"""Pictures of captions: FID, KID, IS and CLIP-Score, and the paper's comparison of two systems by a judge."""

__all__: list[str] = []
