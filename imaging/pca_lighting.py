"""PCA lighting: brightness and colour shift along the axes in which ImageNet's pixels vary.

Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012,
section 4.1, https://papers.nips.cc/paper/4824. Every image gets the colour sum_i a_i l_i p_i added,
with a_i ~ N(0, sigma), and l_i, p_i the eigenvalues and eigenvectors of the covariance of all RGB
values of ImageNet's training set, on a scale of 0..1. albumentations' ``FancyPCA`` is another
augmentation: it takes the axes from the one image that it changes.

Deviation: the result is rounded and clipped to 0..255, as every image of a pipeline is.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from albumentations import ImageOnlyTransform

EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
# One eigenvector a column, one channel (R, G, B) a row.
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


class PCALighting(ImageOnlyTransform):
    """Add one colour to the whole image.

    Args:
        sigma: standard deviation of the three coefficients.
        variant: 'textbook' is the paper's formula. 'sn' is what trained the published models of
            Switchable Normalization: their code has the columns of the matrix in reversed order
            and takes its rows for the eigenvectors, so that the greatest eigenvalue does not
            change brightness but yellow against blue.
        p: probability to do it at all.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        sigma: float
        variant: Literal["textbook", "sn"]

    def __init__(
        self, sigma: float = 0.1, variant: Literal["textbook", "sn"] = "textbook", p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        if sigma < 0:
            raise ValueError(f"PCALighting: expected sigma >= 0, got {sigma}")
        self.sigma, self.variant = sigma, variant

    def get_params(self) -> dict[str, Any]:
        alpha = np.array([self.py_random.gauss(0, self.sigma) for _ in EIGENVALUES])
        return {"shift": lighting(alpha, self.variant)}

    def apply(self, img: np.ndarray, shift: np.ndarray, **_: Any) -> np.ndarray:
        levels = np.arange(256) + 255 * shift[:, None]  # (3, 256): where each level goes
        table = np.clip(levels.round(), 0, 255).astype(np.uint8)
        return cv2.LUT(img, table.T.reshape(1, 256, 3))


def lighting(alpha: np.ndarray, variant: str = "textbook") -> np.ndarray:
    """The (3,) RGB shift, for images in 0..1, of three coefficients."""
    axes = EIGENVECTORS[:, ::-1] if variant == "sn" else EIGENVECTORS.T  # one a row
    shift: np.ndarray = (alpha * EIGENVALUES) @ axes
    return shift
