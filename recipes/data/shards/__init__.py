"""Records and their pictures in tar shards, in the form of webdataset, with an index of where each record is."""

__all__: list[str] = []
