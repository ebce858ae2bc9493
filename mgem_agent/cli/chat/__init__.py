"""`mgem chat`: the loop, its commands, its input line and its exports."""

__all__: list[str] = []
