"""Fuzz the loaders with atheris, guided by coverage.

``python benchmarks/fuzz/fuzz.py --minutes 60`` fuzzes all targets of ``tests/fuzz_targets.py`` in
turn, an equal time each, and exits with status 1 if one fails. New inputs are collected in
``build/fuzz/NAME``; an input that fails is written there as ``crash-*``, ``timeout-*`` or
``oom-*``: add it to ``tests/fuzz/corpus/NAME`` with the fix. Needs the extra ``dev``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUZZ = ROOT / "tests/fuzz"

#: Seconds that one input may take, and memory of a process, MiB.
TIMEOUT, MEMORY = 20, 6000


def fuzz_one(name: str, arguments: list[str]) -> None:
    import atheris

    sys.path.insert(0, str(FUZZ.parent))
    with atheris.instrument_imports(include=["autotts_gym", "yaml", "json"]):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0, help="time in all")
    parser.add_argument("--target", action="append", help="only this one; repeatable")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.one:
        fuzz_one(options.one, rest)
        return 0
    names = options.target or sorted(folder.name for folder in (FUZZ / "corpus").iterdir())
    seconds = max(1, round(60 * options.minutes / len(names)))
    failed = []
    for name in names:
        found = ROOT / "build/fuzz" / name
        found.mkdir(parents=True, exist_ok=True)
        print(f"{name}: {seconds} s", flush=True)
        command = [
            *(sys.executable, __file__, "--one", name, str(found), str(FUZZ / "corpus" / name)),
            *(f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}"),
            *(f"-artifact_prefix={found}/", "-max_len=20000", "-verbosity=0"),
        ]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
