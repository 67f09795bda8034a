"""What is wrong with a file that a user gave: collected while it is read, and reported in one error."""

from pathlib import Path

from stages.runtime.errors import UserError

SHOWN = 10  # offenders named of each kind


class Problems:
    """Problems by file and kind, each once; takes little memory however many there are.

    Args:
        error: what `stop` raises.
    """

    def __init__(self, error: type[UserError]):
        self._error = error
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], list[str]] = {}
        self._seen: set[int] = set()  # hashes

    def add(self, path: Path, kind: str, offender: str) -> None:
        """Add an offender, such as `annotation 12`, to a kind, such as `mask without a pixel`, if it is not there."""
        key = (str(path), kind)
        if (seen := hash((*key, offender))) in self._seen:
            return
        self._seen.add(seen)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] <= SHOWN:
            self._first.setdefault(key, []).append(offender)

    def stop(self) -> None:
        """Raise the error where there is any problem."""
        if self._counts:
            raise self._error("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        lines = []
        for (path, kind), count in self._counts.items():
            more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
            lines.append(f"{path}: {kind} ({count:,}): {'; '.join(self._first[path, kind])}{more}")
        return lines
