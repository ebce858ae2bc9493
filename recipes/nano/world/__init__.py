"""nano's world: scenes composed from emoji pictures, with captions, questions and dialogues."""

__all__: list[str] = []
