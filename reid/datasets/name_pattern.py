"""Regular expressions that find an identity or a camera in the names of files."""

import re
from collections.abc import Iterable

from engine.wording import some
from imaging.files import relative_name

__all__ = ["compile_name_pattern", "find_names"]


def compile_name_pattern(text: str, *, option: str, what: str, example: str) -> re.Pattern[str]:
    """A pattern with exactly one group, the name of ``what``.

    Raises:
        ValueError: no regular expression, or another number of groups.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"{option} '{text}' is not a regular expression: {error}") from None
    if pattern.groups != 1:
        raise ValueError(
            f"{option} must have exactly one group, the {what}'s name, as in '{example}'; "
            f"'{text}' has {pattern.groups}"
        )
    return pattern


def find_names(
    pattern: re.Pattern[str],
    files: Iterable[tuple[str, str]],
    *,
    option: str,
    what: str,
    root: str,
) -> dict[str, str]:
    """path -> what the pattern finds in its name.

    Args:
        files: (path, name): where the pattern is searched for is the name.
        root: that paths are shown relative to.

    Raises:
        ValueError: it finds nothing in some.
    """
    names: dict[str, str] = {}
    unmatched = []
    for path, name in files:
        found = pattern.search(name)
        if found and found[1]:
            names[path] = found[1]
        else:
            unmatched.append(relative_name(path, root))
    if unmatched:
        total = len(unmatched) + len(names)
        remedy = "correct the pattern"
        if what == "camera":
            remedy += ", or leave it out to work without cameras"
        raise ValueError(
            f"{option} '{pattern.pattern}' finds no {what} in {len(unmatched):,} of "
            f"{total:,} files: {some(unmatched)}; {remedy}"
        )
    return names
