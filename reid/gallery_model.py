"""Which model filled a gallery: ``extractor.json`` in its folder, so that queries use the same one.

A gallery itself holds vectors and never knows where a model's files lie; this file says so to tools
and services. A gallery on a server has no folder: the file then lies wherever its user keeps it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.atomic import write_json

if TYPE_CHECKING:
    from reid.gallery import Gallery

    from .inference import FeatureExtractor
    from .threshold import Threshold

__all__ = ["GalleryModel", "find_gallery_model", "gallery_extractor", "gallery_threshold"]

MODEL_FILE = "extractor.json"


@dataclass(frozen=True)
class GalleryModel:
    """Paths of a config and a checkpoint; None where features were brought without saying."""

    config: str | None
    weights: str | None

    @classmethod
    def of(cls, config: str | Path | None, weights: str | Path | None) -> GalleryModel:
        """Paths as they are from any working directory."""
        places = [
            None if path is None else str(Path(path).absolute()) for path in (config, weights)
        ]
        return cls(*places)

    def write(self, file: str | Path) -> Path:
        """Write it as JSON, atomically."""
        return write_json(file, asdict(self))

    @classmethod
    def read(cls, file: str | Path) -> GalleryModel:
        """What :meth:`write` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: it is something else.
        """
        file = Path(file)
        if not file.is_file():
            raise FileNotFoundError(f"no model file at {file}; tools/build_gallery.py writes one")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            config, weights = content["config"], content["weights"]
            if not all(path is None or isinstance(path, str) for path in (config, weights)):
                raise ValueError("paths must be texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} does not say which model filled the gallery ({error!r}); expected a file "
                "that tools/build_gallery.py wrote, with config and weights"
            ) from error
        return cls(config, weights)


def find_gallery_model(
    gallery: Gallery,
    *,
    config: str | None = None,
    weights: str | None = None,
    model_file: str | Path | None = None,
) -> GalleryModel:
    """The model of a gallery: what is given, else what the model file says.

    Args:
        model_file: by default ``extractor.json`` in the gallery's folder.

    Raises:
        ValueError: neither says it. FileNotFoundError: it lies elsewhere now.
    """
    stored = GalleryModel(None, None)
    file = Path(model_file) if model_file is not None else gallery_model_file(gallery.location)
    if file is not None and (model_file is not None or file.is_file()):
        stored = GalleryModel.read(file)
    found = GalleryModel(config or stored.config, weights or stored.weights)
    if found.config is None or found.weights is None:
        raise ValueError(
            f"nothing says which model filled {gallery.location} (a build that is not finished "
            "does not): give --config FILE and --checkpoint FILE, or --model-file FILE, which "
            "tools/build_gallery.py wrote"
        )
    for path, option in ((found.config, "--config"), (found.weights, "--checkpoint")):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"the model of {gallery.location} is not at {path} (any more); say where it lies "
                f"now with {option} FILE"
            )
    return found


def gallery_model_file(location: str) -> Path | None:
    """Where a gallery's model file lies by itself; None for one on a server."""
    from reid.gallery.address import is_address

    return None if is_address(location) else Path(location) / MODEL_FILE


def gallery_extractor(
    gallery: Gallery, model: GalleryModel, device: str | None = None, threshold: Any = False
) -> FeatureExtractor:
    """The gallery's model, ready to embed queries.

    Raises:
        ValueError: it is another one than that which filled the gallery.
    """
    from .inference import FeatureExtractor

    extractor = FeatureExtractor(str(model.config), model.weights, device, threshold=threshold)
    if gallery.model not in (None, extractor.fingerprint):
        raise ValueError(
            f"{gallery.location} was filled by the model {gallery.model}, but {model.config} with "
            f"{model.weights} is the model {extractor.fingerprint}: their features cannot be "
            "compared. Give the config and checkpoint that filled it, or build another gallery"
        )
    return extractor


def gallery_threshold(gallery: Gallery, given: Any, model: GalleryModel | None) -> Threshold:
    """The threshold that is given (a number or a file), or the one stored beside the weights.

    Args:
        given: True for the stored one.

    Raises:
        ValueError: none is stored, or it belongs to another model than the gallery's.
    """
    from .threshold import Threshold, as_threshold, threshold_path

    if given is True:
        weights = None if model is None else model.weights
        if weights is None or not threshold_path(weights).is_file():
            raise ValueError(
                f"--threshold: none is stored beside {weights or 'the weights'}; make one: python "
                f"tools/calibrate_threshold.py {(model and model.config) or 'CONFIG'} "
                f"{weights or 'CHECKPOINT'} --data DATA, or give a number"
            )
        threshold = Threshold.read(threshold_path(weights))
    else:
        threshold = as_threshold(given)
    if threshold.model is not None and gallery.model not in (None, threshold.model):
        raise ValueError(
            f"--threshold: it was calibrated for the model {threshold.model}, the gallery holds "
            f"features of {gallery.model}. Calibrate it for the gallery's model with "
            "tools/calibrate_threshold.py, or give a number"
        )
    return threshold
