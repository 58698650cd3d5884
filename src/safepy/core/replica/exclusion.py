"""What of a replicated directory is left out (`notreplicated`, reference: userconfig 11.3).

What is left out lives on each node by itself: never compared, never copied, never removed for its
own sake. With a directory that is left out goes all that is below it; with a replicated
directory that is removed goes what was left out in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from safepy.core.replica.patterns import Pattern

#: Components from the root of the directory.
Path = tuple[bytes, ...]


class Exclusion:
    """The rules of one directory, (kind, text) pairs as in `config.schema.Replicated`.

    "path": this object, with all below it. "regex": whatever has a name that matches, in any
    directory. "only": whatever has a name that does not match, directories excepted (they must
    be there for what is in them); of several, one must match. An expression with a "/" in it is
    matched against the path instead of the name. Raises ValueError for a rule that cannot be
    read.
    """

    def __init__(self, rules: Sequence[tuple[str, str]] = ()) -> None:
        self._paths: set[Path] = set()
        self._regexes: list[tuple[Pattern, bool]] = []
        self._only: list[tuple[Pattern, bool]] = []
        for kind, text in rules:
            if kind == "path":
                path = tuple(part for part in _bytes(text).split(b"/") if part not in (b"", b"."))
                if not path or b".." in path:
                    raise ValueError(f"{text!r} is no path below the directory")
                self._paths.add(path)
            elif kind in ("regex", "only"):
                kept = self._regexes if kind == "regex" else self._only
                kept.append((Pattern(text), "/" in text))
            else:
                raise ValueError(f"unknown kind of rule: {kind!r}")

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self._paths or self._regexes or self._only)

    def excludes(self, path: Path, is_directory: bool) -> bool:
        """Whether this object is left out, its parent being replicated."""
        if path in self._paths:
            return True
        if not (self._regexes or self._only):
            return False
        name = _text(path[-1])
        if any(_matches(each, path, name) for each in self._regexes):
            return True
        if is_directory or not self._only:
            return False
        return not any(_matches(each, path, name) for each in self._only)

    def covers(self, path: Path, is_directory: bool) -> bool:
        """Whether this object is left out, by its own name or one above it."""
        return any(
            self.excludes(path[:depth], is_directory or depth < len(path))
            for depth in range(1, len(path) + 1)
        )

    def depends(self, path: Path) -> bool:
        """Whether what is left out below this directory depends on its path."""
        if any(whole for _, whole in (*self._regexes, *self._only)):
            return True
        return any(len(rule) > len(path) and rule[: len(path)] == path for rule in self._paths)


def _matches(rule: tuple[Pattern, bool], path: Path, name: str) -> bool:
    pattern, whole = rule
    return pattern.search(_text(b"/".join(path)) if whole else name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
