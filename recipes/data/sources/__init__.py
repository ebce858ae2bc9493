"""The sources of the paper's data: manifests, downloads, converters, and the report of what was obtained."""

__all__: list[str] = []
