"""Training the captioner on the pictures of its own captions: preferences (DPO) over what a generator drew of them."""

__all__: list[str] = []
