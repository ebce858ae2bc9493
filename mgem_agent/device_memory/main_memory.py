"""The main memory of this machine."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_main_memory"]

MEMINFO = Path("/proc/meminfo")


def read_main_memory() -> tuple[int, int] | None:
    """Return the total and the free main memory in bytes; None if this system does not say."""
    if not MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines() if ":" in line)
    total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, free
