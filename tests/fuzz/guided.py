"""Coverage-guided fuzzing of every parser, for as long as one likes; by hand.

    python tests/fuzz/guided.py --minutes 3 [--target live ...] [--keep]

Each target runs in a process of its own under libFuzzer (atheris, a wheel without a compiler:
`pip install atheris`). Inputs that make it fail are kept in tests/fuzz/corpus/TARGET and make the
normal tests fail until the parser is mended; `--keep` adds a few small inputs that reach far.
Ends with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

INPUT_BYTES_MAX = 16 << 10
ONE_INPUT_LIMIT_S = 20
MEMORY_MB_MAX = 1024
#: Of the inputs that reached new code last, so many are kept for a target.
KEPT_MAX = 6
KEPT_BYTES_MAX = 1024


def child(name: str, arguments: list[str]) -> None:
    """The fuzzer itself; never returns."""
    import atheris

    with atheris.instrument_imports(include=["safepy"]):
        from fuzz_targets import TARGETS
    atheris.Setup([name, *arguments], TARGETS[name].run)
    atheris.Fuzz()


def fuzz(name: str, minutes: float, keep: bool) -> list[Path]:
    """Fuzz one target; the failing inputs, as they are kept now."""
    from fuzz_targets import CORPUS, TARGETS, corpus

    with tempfile.TemporaryDirectory(prefix="safepy-guided-") as place:
        work, found = Path(place, "work"), Path(place, "found")
        work.mkdir()
        found.mkdir()
        for data in (*TARGETS[name].seeds, *corpus(name)):
            (work / _name(data)).write_bytes(data)
        options = [
            f"-max_total_time={max(1, round(minutes * 60))}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={ONE_INPUT_LIMIT_S}",
            f"-rss_limit_mb={MEMORY_MB_MAX}",
            f"-artifact_prefix={found}/",
            "-print_final_stats=1",
        ]
        ended = _run(name, [str(work), *options], place)
        failing = sorted(path for path in found.iterdir() if not path.name.startswith("slow-"))
        if ended and not failing:
            raise SystemExit(f"guided.py: the target {name} did not run: exit code {ended}")
        kept = [_keep(path, CORPUS / name, "found-") for path in failing]
        if keep:
            known = {*TARGETS[name].seeds, *corpus(name)}
            small = [path for path in work.iterdir() if path.stat().st_size <= KEPT_BYTES_MAX]
            # What came last was the hardest to find.
            newest = sorted(small, key=lambda path: path.stat().st_mtime_ns, reverse=True)
            new = [path for path in newest if path.read_bytes() not in known]
            for path in new[:KEPT_MAX]:
                _keep(path, CORPUS / name, "reach-")
        return kept


def _run(name: str, arguments: list[str], temporary: str) -> int:
    """In a process of its own: a crash, an endless loop or too much memory ends only that."""
    environment = {**os.environ, "TMPDIR": temporary}
    command = [sys.executable, __file__, "--child", name, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _keep(path: Path, folder: Path, prefix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / (prefix + _name(path.read_bytes()))
    shutil.copyfile(path, kept)
    return kept


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    parser.add_argument("--keep", action="store_true", help="keep a few inputs that reach far")
    asked = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("guided.py needs atheris: pip install atheris", file=sys.stderr)
        return 2
    from fuzz_targets import TARGETS

    names = asked.target or list(TARGETS)
    unknown = set(names) - set(TARGETS)
    if unknown:
        parser.error(f"no target {min(unknown)}; there are {', '.join(TARGETS)}")
    found = {name: fuzz(name, asked.minutes, asked.keep) for name in names}
    for name, paths in found.items():
        print(f"{name}: {len(paths) or 'nothing'} found", *paths)
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
