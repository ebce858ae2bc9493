"""Pictures that are kept: each stored once under the hash of its bytes, with how it was made."""

__all__: list[str] = []
