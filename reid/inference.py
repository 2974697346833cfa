"""Images -> embeddings, and whether two images show the same identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from imaging.files import read_image
from imaging.transforms import build_transforms

from .registry import MODELS

if TYPE_CHECKING:
    from mmengine import Config

Image: TypeAlias = "str | Path | np.ndarray"


class FeatureExtractor:
    """A trained re-ID model as a function of images.

    Args:
        config: path of a config, or a config; its ``model`` and ``test_pipeline`` are used.
        weights: checkpoint of the whole model; None leaves the weights as initialised.
        device: 'cpu', 'cuda', ...; by default CUDA where there is one.
        batch_size: images that go through the network together.

    Attributes:
        dim: length D of an embedding. fingerprint: hash of weights and preparation, by
            which a gallery recognises the model that filled it.

    Raises:
        CheckpointError: weights that cannot be read or do not fit this model.
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        batch_size: int = 64,
    ) -> None:
        from engine.cli import load_config

        cfg = load_config(config) if isinstance(config, (str, Path)) else config
        if "test_pipeline" not in cfg:
            raise ValueError(
                "the config has no test_pipeline, so images cannot be prepared; add e.g. "
                "test_pipeline=[dict(type='Resize', height=256, width=128)]"
            )
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or default)
        self.batch_size = batch_size
        self.transforms = build_transforms(cfg.test_pipeline)
        # without classifier and losses; the weights of a backbone would be overwritten anyway
        model = {**cfg.model, "num_identities": None, "weights": None}
        self.model = MODELS.build(model).to(self.device).eval()
        if weights is not None:
            from backbones.weights import load_weights, read_checkpoint
            from engine.checkpoints import without_training_only

            load_weights(self.model, without_training_only(self.model, read_checkpoint(weights)))
        self.dim: int = self.model.feature_dim

    @property
    def fingerprint(self) -> str:
        """sha256 over all that an embedding depends on, first 16 hex digits."""
        normalizer = self.model.data_preprocessor
        settings = (
            self.transforms.config,
            self.model.test_feature,
            normalizer.mean.flatten().tolist(),
            normalizer.std.flatten().tolist(),
        )
        digest = hashlib.sha256(repr(settings).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def __call__(self, images: Image | Sequence[Image] | Tensor) -> np.ndarray:
        """Embed images.

        Args:
            images: paths, (H, W, 3) uint8 RGB arrays, a sequence of either (sizes may differ), or
                an (N, 3, H, W) uint8 RGB tensor that already has the size of the test pipeline.

        Returns:
            (N, D) float32 of unit length; N is 1 for a single image.

        Raises:
            UnreadableImageError: a file that is no whole image. ValueError: another kind of input.
        """
        batches = [self._embed(batch) for batch in self._batches(images)]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)

    def _batches(self, images: Any) -> Iterator[Tensor]:
        if isinstance(images, Tensor):
            if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
                raise ValueError(
                    "a batch is an (N, 3, H, W) uint8 RGB tensor, not yet normalised; got "
                    f"{images.dtype} of shape {tuple(images.shape)}"
                )
            yield from images.split(self.batch_size)
            return
        if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        for start in range(0, len(images), self.batch_size):
            yield torch.stack([self._prepare(i) for i in images[start : start + self.batch_size]])

    def _prepare(self, image: Image) -> Tensor:
        if isinstance(image, (str, Path)):
            image = read_image(image)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
            raise ValueError(f"an image is a path or an (H, W, 3) uint8 RGB array, got {got}")
        return self.transforms(image)

    @torch.inference_mode()
    def _embed(self, batch: Tensor) -> np.ndarray:
        data = self.model.data_preprocessor({"inputs": batch})
        embeddings: np.ndarray = self.model(data["inputs"], mode="predict").cpu().numpy()
        return embeddings


@dataclass(frozen=True)
class Comparison:
    """The answer to "are these two the same?": score is the cosine similarity, -1..1."""

    score: float
    threshold: float

    @property
    def same(self) -> bool:
        return self.score >= self.threshold


def compare(extractor: FeatureExtractor, a: Image, b: Image, threshold: float) -> Comparison:
    """Compare two images.

    Args:
        threshold: smallest cosine similarity that counts as the same identity. It depends on the
            model and the cameras: choose it on pairs whose answer you know.
    """
    first, second = extractor([a, b])
    return Comparison(float(first @ second), threshold)
