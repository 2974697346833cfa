"""What tools say of a gallery's rows and index, in lines and tables for a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid.gallery.tuning import IndexReport

__all__ = ["Folder", "stage_bars", "what_to_try"]


class Folder:
    """The folder that all of some images lie in, so that it is said once and not in every line."""

    def __init__(self, images: Iterable[object]) -> None:
        paths = [image for image in images if isinstance(image, str) and os.path.isabs(image)]  # noqa: PTH117
        common = os.path.commonpath({os.path.dirname(path) for path in paths}) if paths else ""  # noqa: PTH120
        self._prefix = os.path.join(common, "") if len(common) > 1 else ""  # noqa: PTH118

    def short(self, image: object) -> str:
        """An image's path below the folder."""
        return str(image).removeprefix(self._prefix)

    @property
    def line(self) -> str:
        """Where the images are; empty where they have nothing in common."""
        return f"images are in {self._prefix}" if self._prefix else ""


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr for each stage; yields what to call with (stage, done, total)."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(total=total, desc=stage, unit="", smoothing=0.05)
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def what_to_try(report: IndexReport) -> str:
    """Another index, for one that does not reach the recall that was asked for."""
    parts = report.factory.split(",")
    whole = next((part for part in parts if part.startswith(("IVF", "HNSW"))), "HNSW32")
    if parts[-1] not in ("Flat", "SQfp16", whole) or len(parts) > 2:
        return f"Worth trying: whole vectors, {whole},SQfp16 or {whole},Flat."
    if whole.startswith("IVF"):
        return "Worth trying: a graph, HNSW32,SQfp16; or fewer lists."
    return "Worth trying: more links, HNSW64,SQfp16; or lists, IVF1024,Flat."
