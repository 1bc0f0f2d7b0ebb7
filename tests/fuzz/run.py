"""Fuzz one target, see scripts/fuzz.

A target is a module in tests/fuzz/targets. It has

    check(data: bytes) -> None      raise anything but what the parser promises, and the input is kept as a crash
    SEEDS: tuple[bytes, ...]        good and bad inputs to begin with
    TOKENS: tuple[bytes, ...]       pieces worth inserting (may be missing)

and that is all that a further parser needs. The seeds also run with the tests.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

atheris: Any = importlib.import_module(
    "atheris"
)  # not an import statement: it ships no types, and only scripts/fuzz installs it


def write_seeds(folder: Path, seeds: tuple[bytes, ...]) -> None:
    """Store the seeds where libFuzzer keeps its corpus, under names that do not change."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)


def write_tokens(file: Path, tokens: tuple[bytes, ...]) -> None:
    """Store the tokens as a libFuzzer dictionary."""
    lines = ['"' + "".join(f"\\x{byte:02X}" for byte in token) + '"' for token in tokens]
    file.write_text("\n".join(lines) + "\n", encoding="ascii")


def main(name: str, options: list[str]) -> None:
    """Instrument the package, import the target and hand over to libFuzzer, which ends the process."""
    sys.path[:0] = [str(ROOT / "daemon"), str(ROOT / "tests")]
    # The login is read by the library, whose branches guide its target.
    with atheris.instrument_imports(include=["mailmapd", "aiomysql", "pymysql"]):
        target = importlib.import_module(f"fuzz.targets.{name}")
    out = ROOT / "out" / "fuzz" / name
    write_seeds(out / "corpus", target.SEEDS)
    write_tokens(out / "tokens", getattr(target, "TOKENS", ()))
    arguments = [sys.argv[0], f"-artifact_prefix={out}/", f"-dict={out}/tokens", *options]
    if all(option.startswith("-") for option in options):
        arguments.append(str(out / "corpus"))
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
