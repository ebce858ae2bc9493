"""From messages to token ids: the dialogue formats, the image tokens and the padded batch."""

__all__: list[str] = []
