"""How much main memory is free, and sizes in words; imports nothing heavy."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def free_memory(*, meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Free main memory in bytes, of the container where one sets a limit; None where the system does not say."""
    try:
        facts = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 2**10
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def gib(count: float) -> str:
    """Bytes in words: `3.2 GiB`, `47 TiB`."""
    value, unit = (count / 2**40, "TiB") if count >= 2**40 else (count / 2**30, "GiB")
    return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
