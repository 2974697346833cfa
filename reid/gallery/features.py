"""What a feature array must be before FAISS, which checks next to nothing, may see it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_features(features: Any, dim: int, metric: str, what: str) -> NDArray[np.float32]:
    """Features (N, dim) -> C-ordered float32; of unit length when the metric is cosine.

    Accepts numpy arrays, nested lists and torch tensors (any device) of a floating type.

    Raises:
        ValueError: not a matrix, another dimension, not floating, NaN or infinite rows, or, under
            cosine, rows of zeros; the rows are named.
    """
    array = _as_array(features, what)
    if array.ndim != 2:
        raise ValueError(
            f"{what} must have shape (N, {dim}); got {array.shape}. "
            f"For a single vector pass vector[None]."
        )
    if array.shape[1] != dim:
        raise ValueError(
            f"{what} have dimension {array.shape[1]}, this gallery holds dimension {dim}. Use the "
            f"model that filled it, or make a gallery with Gallery.create(path, {array.shape[1]})."
        )
    with np.errstate(over="ignore"):  # what overflows is refused just below
        vectors: NDArray[np.float32] = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    if not finite.all():
        raise ValueError(
            f"{what} are not finite (NaN, infinite, or too large for float32) in {_rows(~finite)}. "
            "Nothing was done; look at the images or the model that gave these rows."
        )
    if metric != "cosine":
        return vectors
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))  # (N,)
    if not norms.all():
        raise ValueError(
            f"{what} are all zeros in {_rows(norms == 0)}, which have no direction and no cosine. "
            "Nothing was done; leave these rows out."
        )
    unit = np.empty_like(vectors)
    np.divide(vectors, norms[:, None], out=unit, casting="same_kind")  # in float64, rounded once
    return unit


def _as_array(features: Any, what: str) -> NDArray[Any]:
    if hasattr(features, "detach"):  # a torch tensor, known by its method: no import of torch here
        features = features.detach().cpu()
        if features.is_floating_point():
            features = features.float()  # numpy has no bfloat16
        features = features.numpy()
    try:
        array = np.asarray(features)
    except ValueError as error:
        raise ValueError(f"{what} must be one (N, D) array: {error}") from error
    if array.dtype.kind != "f" and array.size:
        raise ValueError(
            f"{what} must be floating point (float16, float32 or float64); got {array.dtype}."
        )
    return array


def _rows(bad: NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(bad).tolist()
    shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return f"{len(numbers)} row{'s' if len(numbers) > 1 else ''} ({shown})"
