"""Which FAISS indexes a gallery may use, and why not the others.

Row number = FAISS's position, filters are one bitmap over positions, removed rows are filtered out,
and scores are computed again from the stored vectors. What does not keep to this, or lets rows
through a filter, is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reid.gallery.faiss_install import import_faiss

EXACT = "Flat"
_PREFIX = re.compile(
    r"PCA[WR]{0,2}(?P<dim>[1-9]\d*)|OPQ(?P<parts>[1-9]\d*)(_(?P<rotated>[1-9]\d*))?"
)
_LISTS = re.compile(r"IVF([1-9]\d*)(_HNSW([2-9]|[1-9]\d+))?")
_GRAPH = re.compile(r"HNSW([2-9]|[1-9]\d+)")
_SCALARS = {"Flat", "SQfp16", "SQ8"}
_PRODUCTS = re.compile(r"PQ[1-9]\d*(x(4|6|8|10|12)|x4fsr?)?")

_SUPPORTED = (
    "Supported are 'Flat' (exact); 'HNSW<links>' with ',Flat', ',SQfp16' or ',SQ8'; and "
    "'IVF<lists>' or 'IVF<lists>_HNSW<links>' with ',Flat', ',SQfp16', ',SQ8', ',PQ<parts>' or "
    "',PQ<parts>x4fs'; each behind 'PCA<dim>,' or 'OPQ<parts>_<dim>,' if you like. For example "
    "'HNSW32,SQfp16' or 'IVF1024,Flat'."
)
_REFUSED = (
    ("IDMap", "rows are known by their position; removing from a mapped IVF ruins it in silence"),
    ("NSG", "NSG refuses filters"),
    ("RaBitQ", "RaBitQ refuses filters, without IVF, and part of the metrics"),
    ("LSH", "LSH refuses filters"),
    ("Refine", "rows leak through the filter; and scores are always refined here, from the stored "
     "vectors: leave it out"),
    ("RFlat", "rows leak through the filter; and scores are always refined here, from the stored "
     "vectors: leave it out"),
    ("L2norm", "vectors are of unit length already where the metric is cosine"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Factory:
    """A factory string, understood.

    Attributes:
        text: as FAISS gets it.
        lists: number of inverted lists; 0 for a graph.
        graph_of_lists: whether the lists are found through a graph.
        lossy: whether distances are those of coarse codes, so that more rows have to be proposed
            than are wanted.
    """

    text: str
    lists: int
    graph_of_lists: bool
    lossy: bool


def check_factory(index: str, dim: int, metric: str) -> None:
    """Refuse what a gallery cannot use: ValueError says why, and what it can."""
    if index != EXACT:
        parse(index)
        make(index, dim, metric)


def parse(index: str) -> Factory:
    """The factory string of an approximate index; ValueError as of :func:`check_factory`."""
    if not isinstance(index, str):
        raise ValueError(f"index must be a text, a FAISS factory string; got {index!r}.")
    for name, reason in _REFUSED:
        if name.lower() in index.lower():
            raise ValueError(f"index {index!r} cannot be used: {reason}. {_SUPPORTED}")
    parts = index.split(",")
    if len(parts) == 1 and index in _SCALARS:
        raise ValueError(
            f"index {index!r} is exact, and no index: use index='Flat' with dtype='float16', which "
            f"halves memory and disk in the same way. {_SUPPORTED}"
        )
    if len(parts) == 1 and _PRODUCTS.fullmatch(index):
        raise ValueError(
            f"index {index!r} cannot be used: PQ without IVF refuses filters. Use "
            f"'IVF1024,{index}', say. {_SUPPORTED}"
        )
    lossy = False
    while _PREFIX.fullmatch(parts[0]) and len(parts) > 1:
        lossy = True
        parts = parts[1:]
    codes = parts[1] if len(parts) == 2 else "Flat"
    lossy = lossy or codes not in ("Flat", "SQfp16")
    if len(parts) == 2 and (lists := _LISTS.fullmatch(parts[0])):
        if codes in _SCALARS or _PRODUCTS.fullmatch(codes):
            return Factory(index, int(lists[1]), bool(lists[2]), lossy)
    elif len(parts) <= 2 and _GRAPH.fullmatch(parts[0]) and codes in _SCALARS:
        return Factory(index, 0, False, lossy)
    raise ValueError(f"index {index!r} is not known here. {_SUPPORTED}")


def make(index: str, dim: int, metric: str) -> Any:
    """An empty FAISS index; ValueError if FAISS cannot make it for this dimension."""
    length = dim
    for prefix in filter(None, map(_PREFIX.fullmatch, index.split(","))):
        parts, rotated = (
            int(prefix["parts"] or 1),
            int(prefix["dim"] or prefix["rotated"] or length),
        )
        if rotated > length or rotated % parts:
            raise ValueError(
                f"the index {index!r} turns dimension {length} into {rotated} in {parts} parts: it "
                "must not become larger, and the parts must divide it."
            )
        length = rotated
    faiss = import_faiss()
    measure = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    try:
        return faiss.index_factory(dim, index, measure)
    except RuntimeError as error:
        reason = str(error).strip().rpartition("Error: ")[2] or "no reason given"
        raise ValueError(
            f"FAISS cannot make the index {index!r} for dimension {dim}: {reason}. The number of "
            "parts of PQ must divide the dimension."
        ) from error
