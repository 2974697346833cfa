"""The tree of folders and files that a published data set is unpacked to."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from imaging.files import existing_folder

__all__ = ["find_tree", "first_of", "tree_near"]


def find_tree(
    root: str | os.PathLike[str],
    *alternatives: Sequence[str],
    title: str,
    remedy: str = "",
) -> Path:
    """``root`` as a Path, if it holds the files and folders of one of ``alternatives``.

    Args:
        title: what a folder is that holds them, e.g. ``"a Market-1501 folder"``.
        remedy: what else to try when nothing of it is there.

    Raises:
        FileNotFoundError: no such folder, or something is missing; when a folder above or below
            has it all, that one is named.
    """
    folder = existing_folder(root)
    # the one of which the least is missing is what was meant
    missing = min(
        ([n for n in names if not (folder / n).exists()] for names in alternatives), key=len
    )
    if not missing:
        return folder
    names = next(n for n in alternatives if set(missing) <= set(n))
    advice = f"give the folder that contains all of {', '.join(names)}"
    if better := tree_near(folder, *alternatives):
        advice = f"use {str(better)!r} instead, which has them"
    elif len(missing) == len(names) and remedy:
        advice += f"; {remedy}"
    raise FileNotFoundError(
        f"{str(folder)!r} is not {title}: {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing; {advice}"
    )


def tree_near(folder: Path, *alternatives: Sequence[str]) -> Path | None:
    """A complete tree up to two levels above or below, where unpacking often leaves it."""

    def complete(place: Path) -> bool:
        return any(all((place / name).exists() for name in names) for names in alternatives)

    return next(filter(complete, _places_near(folder)), None)


def first_of(folder: Path, *names: str) -> Path:
    """The first of several names of a file that is there; where none is, the first name."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _places_near(folder: Path, limit: int = 50) -> Iterator[Path]:
    """Few enough to look into: a folder of thousands is not what a tree was unpacked to."""
    yield from folder.absolute().parents[:2]
    for pattern in ("*/", "*/*/"):
        below = sorted(folder.glob(pattern))
        yield from below[:limit]
        if len(below) > limit:
            return
