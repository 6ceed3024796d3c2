"""Processes as /proc shows them."""

from __future__ import annotations

import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """A process, its children, their children and so on; without those that have ended."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if stat[0] != "Z":
                parents[int(entry.name)] = int(stat[1])
    found = [pid] if pid in parents else []
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def episodes(pid: int) -> list[int]:
    """The descendants of a fork server that are processes of episodes: those with a filter."""
    return [one for one in descendants(pid) if status(one).get("Seccomp") == "2"]


def status(pid: int) -> dict[str, str]:
    """The facts in ``/proc/PID/status``; empty if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def end(pids: list[int]) -> bool:
    """Whether all of them end within 10 seconds."""
    for _ in range(200):
        if all(status(pid).get("State", "Z").startswith(("Z", "X")) for pid in pids):
            return True
        time.sleep(0.05)
    return False
