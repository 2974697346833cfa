"""Images -> embeddings, and whether two images show the same identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from imaging.files import UnreadableImageError, read_image
from imaging.transforms import build_transforms

from .image_loading import Batch, batch_ranges, default_workers, load_batches, stack
from .image_sources import Item
from .registry import MODELS
from .threshold import Threshold, as_threshold, percent, threshold_path

if TYPE_CHECKING:
    from mmengine import Config

__all__ = ["Comparison", "FeatureExtractor", "Image", "compare"]

Image: TypeAlias = "str | Path | np.ndarray"

# A list of files from this length on is read by other processes, whose start takes a moment.
_LONG = 512


class FeatureExtractor:
    """A trained re-ID model as a function of images.

    Args:
        config: path of a config, or a config; its ``model``, ``test_pipeline`` and ``precision``
            (memory format, type of evaluation) are used.
        weights: checkpoint of the whole model; None leaves the weights as initialised.
        device: 'cpu', 'cuda', ...; by default CUDA where there is one.
        batch_size: images that go through the network together.
        threshold: from which score on two images count as the same identity: a number, a
            :class:`reid.threshold.Threshold` or the path of one. None takes the file
            ``<weights>.threshold.json`` where there is one, which tools/calibrate_threshold.py
            writes; False does without.
        dtype: of the network's arithmetic: 'float32', 'bfloat16', 'float16', or 'auto', which is
            bfloat16 where that is fast. By default what the config's ``precision`` says of
            evaluation, else 'float32'. The embeddings are float32 in any case.

    Attributes:
        dim: length D of an embedding. fingerprint: hash of weights and preparation, by
            which a gallery recognises the model that filled it. threshold: a Threshold, or None.

    Raises:
        CheckpointError: weights that cannot be read or do not fit this model.
        ValueError: a threshold that was calibrated for another model.
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        batch_size: int = 64,
        threshold: float | str | Path | Threshold | Literal[False] | None = None,
        dtype: str | None = None,
    ) -> None:
        from engine.cli import load_config
        from engine.precision import DTYPES, Precision, choose_dtype

        cfg = load_config(config) if isinstance(config, (str, Path)) else config
        if "test_pipeline" not in cfg:
            raise ValueError(
                "the config has no test_pipeline, so images cannot be prepared; add e.g. "
                "test_pipeline=[dict(type='Resize', height=256, width=128)]"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or default)
        self.batch_size = batch_size
        self.transforms = build_transforms(cfg.test_pipeline)
        precision = Precision(**(cfg.get("precision") or {}))
        self.dtype = choose_dtype(dtype or precision.eval_dtype)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {[*DTYPES, 'auto']}, got {dtype!r}")
        # without classifier and losses; the weights of a backbone would be overwritten anyway
        model = {**cfg.model, "num_identities": None, "weights": None}
        self.model = MODELS.build(model).to(self.device).eval()
        if weights is not None:
            from backbones.weights import load_weights, read_checkpoint
            from engine.checkpoints import without_training_only

            load_weights(self.model, without_training_only(self.model, read_checkpoint(weights)))
        # on a processor convolutions are faster so, whatever training used
        channels_last = self.device.type == "cpu" or precision.channels_last
        Precision(channels_last=channels_last).apply(self.model)
        self.dim: int = self.model.feature_dim
        self.weights = None if weights is None else Path(weights)
        self.threshold: Threshold | None = self._find_threshold(threshold)

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

    def __call__(
        self, images: Image | Sequence[Image] | Tensor, *, workers: int | None = None
    ) -> np.ndarray:
        """Embed images.

        Args:
            images: paths, (H, W, 3) uint8 RGB arrays, a sequence of either (sizes may differ), or
                an (N, 3, H, W) uint8 RGB tensor that already has the size of the test pipeline.
            workers: processes that read a list of paths ahead; by default none for a short list.

        Returns:
            (N, D) float32 of unit length; N is 1 for a single image.

        Raises:
            UnreadableImageError: a file that is no whole image. ValueError: another kind of input,
            or an image whose embedding is not finite.
        """
        if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        found = [
            features for _, features in self.embed(self._batches(images, workers), _naming(images))
        ]
        return np.concatenate(found) if found else np.empty((0, self.dim), np.float32)

    def embed(
        self, batches: Iterable[Batch], name: Callable[[int], str] = "image {}".format
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches of prepared images with their (B, D) float32 embeddings, in order.

        A GPU always has the next batch before the last one's embeddings are waited for.

        Args:
            name: what a message calls the image at a position.

        Raises:
            ValueError: an embedding is NaN or infinite; the image is named.
        """
        waiting: tuple[Batch, _Running] | None = None
        for batch in batches:
            running = self._launch(batch.inputs)
            if waiting is not None:
                yield self._finish(*waiting, name)
            waiting = batch, running
        if waiting is not None:
            yield self._finish(*waiting, name)

    def load(self, items: Sequence[Item], ranges: Iterable[range], workers: int) -> Iterator[Batch]:
        """Items as batches for :meth:`embed`; see :func:`reid.image_loading.load_batches`."""
        return load_batches(
            items,
            ranges,
            self.transforms,
            workers=workers,
            pin_memory=self.device.type == "cuda",
        )

    def _batches(self, images: Any, workers: int | None) -> Iterator[Batch]:
        if not hasattr(images, "__len__"):
            raise ValueError(
                "expected an image, a sequence of paths or of (H, W, 3) uint8 RGB arrays, or a "
                f"tensor, got {type(images)}; make a list of an iterator"
            )
        ranges = batch_ranges(0, len(images), self.batch_size)
        if isinstance(images, Tensor):
            if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
                raise ValueError(
                    "a batch is an (N, 3, H, W) uint8 RGB tensor, not yet normalised; got "
                    f"{images.dtype} of shape {tuple(images.shape)}"
                )
            for part in ranges:
                yield Batch(images[part.start : part.stop], list(part), [])
        elif len(images) and all(isinstance(image, (str, Path)) for image in images):
            if workers is None:
                workers = default_workers(self.device.type) if len(images) >= _LONG else 0
            items = [Item(str(image)) for image in images]
            for batch in self.load(items, ranges, workers):
                for position, reason in batch.failed:
                    raise UnreadableImageError.of(items[position].path, reason)
                yield batch
        else:
            for part in ranges:
                yield Batch(stack([self._prepare(images[i]) for i in part]), list(part), [])

    def _prepare(self, image: Image) -> Tensor:
        if isinstance(image, (str, Path)):
            image = read_image(image)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
            raise ValueError(f"an image is a path or an (H, W, 3) uint8 RGB array, got {got}")
        if not image.size:
            raise ValueError(
                f"an (H, W, 3) uint8 RGB image needs at least one pixel, got {image.shape}: a box "
                "outside its frame gives such a crop"
            )
        return self.transforms(image)

    @torch.inference_mode()
    def _launch(self, inputs: Tensor | None) -> _Running:
        """Start the network; a GPU is not waited for."""
        from engine.precision import autocast

        if inputs is None or not len(inputs):
            return _Running(torch.empty(0, self.dim), None)
        images = self.model.data_preprocessor({"inputs": inputs})["inputs"]
        with autocast(self.dtype, self.device.type):
            embeddings = self.model(images, mode="predict").float()
        if self.device.type != "cuda":
            return _Running(embeddings.cpu(), None)
        host = embeddings.to("cpu", non_blocking=True)  # into pinned memory, behind the network
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))
        return _Running(host, arrived)

    def _finish(
        self, batch: Batch, running: _Running, name: Callable[[int], str]
    ) -> tuple[Batch, np.ndarray]:
        if running.arrived is not None:
            running.arrived.synchronize()
        features: np.ndarray = running.embeddings.numpy()
        wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(wrong):
            raise ValueError(
                f"the model gives {len(wrong)} of {len(features)} images of a batch an embedding "
                f"that is not finite, first {name(batch.positions[wrong[0]])}; its weights are "
                "broken (a training that diverged?)"
                + (f", or {self.dtype} overflows: use dtype='float32'" * (self.dtype == "float16"))
            )
        return batch, features

    def _find_threshold(self, given: Any) -> Threshold | None:
        if given is False:
            return None
        if given is not None:
            return self.checked(as_threshold(given), given)
        path = None if self.weights is None else threshold_path(self.weights)
        return self.checked(Threshold.read(path), path) if path and path.is_file() else None

    def checked(self, threshold: Threshold, source: Any) -> Threshold:
        """``threshold``, refused where it was calibrated for another model than this one."""
        if threshold.model is not None and threshold.model != (own := self.fingerprint):
            raise ValueError(
                f"the threshold {source} was calibrated for the model {threshold.model}, this one "
                f"is {own}: the weights or the preparation of images changed since. Calibrate it "
                "again with tools/calibrate_threshold.py, or do without: threshold=False"
            )
        return threshold


@dataclass(frozen=True)
class _Running:
    """Embeddings (B, D) on their way: whole once ``arrived`` (of a GPU) is."""

    embeddings: Tensor
    arrived: Any


def _naming(images: Any) -> Callable[[int], str]:
    def name(position: int) -> str:
        image = images[position]
        return str(image) if isinstance(image, (str, Path)) else f"image {position}"

    return name


@dataclass(frozen=True)
class Comparison:
    """The answer to "are these two the same?".

    ``score`` is the cosine similarity, -1..1; from ``threshold`` on the answer is yes.
    ``calibration`` says what that threshold was measured to do, where it was measured.
    """

    score: float
    threshold: float
    calibration: Threshold | None = None

    @property
    def same(self) -> bool:
        return self.score >= self.threshold

    @property
    def expected_error(self) -> float | None:
        """How often this answer is given to pairs of the other kind, 0..1; None where unknown.

        For "same" the false-accept rate: the share of pairs of two identities that get it. For
        "different" the false-reject rate: the share of pairs of one identity.
        """
        if self.calibration is None:
            return None
        return self.calibration.far if self.same else self.calibration.frr

    def __str__(self) -> str:
        sign, answer = (">=", "same identity") if self.same else ("<", "different identities")
        text = f"{answer}: score {self.score:.3f} {sign} threshold {self.threshold:.3f}. "
        if self.calibration is None or self.expected_error is None:
            return text + "How often that errs is unknown: the threshold was not calibrated."
        low, high = self.calibration.far_interval if self.same else self.calibration.frr_interval
        others = "two different identities" if self.same else "one identity"
        return (
            f"{text}Expected error: {percent(self.expected_error)} of pairs of {others} get this "
            f"answer (95% interval {percent(low)} to {percent(high)}; {self.calibration.measured})"
        )


def compare(
    extractor: FeatureExtractor,
    a: Image,
    b: Image,
    threshold: float | str | Path | Threshold | None = None,
) -> Comparison:
    """Compare two images.

    Args:
        threshold: smallest cosine similarity that counts as the same identity, or a calibrated
            :class:`reid.threshold.Threshold`, or the path of one; by default the extractor's. It
            depends on the model and the cameras.

    Raises:
        ValueError: neither is given a threshold, or it belongs to another model.
    """
    chosen = extractor.threshold
    if threshold is not None:
        chosen = extractor.checked(as_threshold(threshold), threshold)
    if chosen is None:
        raise ValueError(
            "there is no threshold to decide by. Calibrate one on data whose answers are known: "
            "python tools/calibrate_threshold.py CONFIG CHECKPOINT --data DATA --far 0.01 (it is "
            "found beside the weights from then on), or give a number: threshold=0.6"
        )
    first, second = extractor([a, b])
    known = chosen if chosen.far is not None else None
    return Comparison(float(first @ second), chosen.value, known)
