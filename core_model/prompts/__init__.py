"""From messages to token ids: dialogue formats, image tokens and padded batches."""

__all__: list[str] = []
