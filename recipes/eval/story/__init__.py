"""Stories by the measures of ViStoryBench (CVPR 2026), with encoders that the user chooses."""

__all__: list[str] = []
