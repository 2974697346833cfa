"""A trained segmentation model as a function: image in, label map of the same size out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from .registry import MODELS, TRANSFORMS

if TYPE_CHECKING:
    from mmengine import Config

__all__ = ["Segmenter", "build_model", "classes_of"]

Image: TypeAlias = "str | Path | np.ndarray"

# An image is given, and labels are what is wanted: these steps of a test pipeline are left out.
_LOADING = {
    *("LoadImage", "LoadImageFromFile", "LoadImageFromNDArray"),
    *("LoadLabels", "LoadAnnotations"),
}


class Segmenter:
    """A segmentation model as a function of images.

    Args:
        config: path of a config, or a config; its ``model`` and ``test_pipeline`` are used. Whole
            images or sliding windows: as the model's ``test_cfg`` says.
        weights: checkpoint of the whole model; None leaves the weights as initialised.
        device: 'cpu', 'cuda', ...; by default CUDA where there is one.
        dtype: 'float32', or 'bfloat16' or 'float16': the network runs under autocast, which is
            faster and changes labels where two classes are nearly equal.
        test_cfg: other settings of inference in place of the model's, e.g.
            ``dict(mode="slide", crop_size=(512, 512), stride=(341, 341), batch_windows=4)``.

    Attributes:
        classes, palette: names and RGB colours, by class index.
        model: the network, on ``device``, in evaluation mode.

    Raises:
        CheckpointError: weights that cannot be read, or that do not fit this model (the message
            names the keys). ValueError: a config that describes no segmentation model.
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        dtype: str = "float32",
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        from engine.cli import load_config
        from engine.precision import DTYPES, Precision

        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {[*DTYPES]}, got {dtype!r}")
        cfg = load_config(config) if isinstance(config, (str, Path)) else config
        if "model" not in cfg:
            raise ValueError("the config has no model")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype
        self.model: Any
        self.model, checkpoint = build_model(cfg, weights)
        last = cfg.get("precision") or {}
        # on a processor convolutions are faster so, whatever training used
        channels_last = self.device.type == "cpu" or bool(last.get("channels_last"))
        self.model.to(self.device)
        Precision(channels_last=channels_last).apply(self.model)
        self.classes, self.palette = classes_of(cfg, self.model.num_classes, checkpoint)
        self.test_cfg = dict(test_cfg if test_cfg is not None else self.model.test_cfg or {})
        self._prepare = _pipeline(cfg)

    @overload
    def __call__(self, images: str | Path | np.ndarray) -> np.ndarray: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: Sequence[Image]) -> list[np.ndarray]: ...

    def __call__(self, images: Any) -> np.ndarray | list[np.ndarray]:
        """Label images.

        Args:
            images: the path of an image (grey, RGBA and 16-bit files become 8-bit RGB), an
                (H, W, 3) uint8 RGB array, or a sequence of either.

        Returns:
            (H, W) uint8 class indices in the image's own size; of a sequence, a list.

        Raises:
            UnreadableFileError: a file that is no whole image. ValueError: another kind of input.
        """
        is_stack = isinstance(images, np.ndarray) and images.ndim == 4
        if not is_stack and not isinstance(images, (list, tuple)):
            return self._label(images)
        return [self._label(image) for image in images]

    def probabilities(self, image: Image) -> np.ndarray:
        """(C, H, W) float32 probabilities of one image; they take 4 C bytes a pixel.

        With one logit a pixel (a binary head) there is one channel: that of class 1.
        """
        from .models.prediction import predict_logits

        with torch.inference_mode(), self._autocast():
            logits = predict_logits(self.network, **self._inputs(image))
            chances = logits.softmax(0) if len(logits) > 1 else logits.sigmoid()
        result: np.ndarray = chances.float().cpu().numpy()
        return result

    def network(self, windows: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, C, h', w') logits at the head's own resolution."""
        return network_logits(self.model, windows)

    def _label(self, image: Image) -> np.ndarray:
        from .models.prediction import predict_labels

        threshold = getattr(self.model.decode_head, "threshold", None)
        with torch.inference_mode(), self._autocast():
            labels = predict_labels(
                self.network,
                **self._inputs(image),
                **({} if threshold is None else {"threshold": threshold}),
            )
        result: np.ndarray = labels.cpu().numpy()
        return result

    def _autocast(self) -> Any:
        from engine.precision import autocast

        return autocast(self.dtype, self.device.type)

    def _inputs(self, image: Image) -> dict[str, Any]:
        """What the functions of :mod:`seg.models.prediction` need besides the network."""
        pixels = _read(image)
        packed = self._prepare(pixels, "" if isinstance(image, np.ndarray) else str(image))
        samples = [packed["data_samples"]]
        data = self.model.data_preprocessor({"inputs": [packed["inputs"]], "data_samples": samples})
        meta = data["data_samples"][0].metainfo
        options = {k: self.test_cfg[k] for k in _PREDICTION_KEYS if k in self.test_cfg}
        return {
            "image": data["inputs"][0],
            "align_corners": self.model.align_corners,
            "out_size": pixels.shape[:2],
            "padding": tuple(meta.get("img_padding_size", meta.get("padding_size", (0,) * 4))),
            **options,
        }


_PREDICTION_KEYS = ("mode", "crop_size", "stride", "batch_windows")


def build_model(
    config: Config, weights: str | Path | None = None
) -> tuple[nn.Module, Mapping[str, Any]]:
    """The config's segmentor in evaluation mode on the CPU, and the checkpoint's content.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    model_config = dict(config.model)
    if "data_preprocessor" in config:
        model_config.setdefault("data_preprocessor", config.data_preprocessor)
    if model_config.get("type") == "seg.Segmentor":  # without what only training needs
        model_config |= {"auxiliary_head": None, "feature_losses": (), "style": ()}
    with DefaultScope.overwrite_default_scope(config.get("default_scope", "mmseg")):
        model = MODELS.build(model_config)
    if not hasattr(model, "decode_head"):
        raise ValueError(
            f"the config's model, {type(model).__name__}, has no decode_head: it does not segment"
        )
    checkpoint: Mapping[str, Any] = {}
    if weights is not None:
        from backbones.weights import WeightsMismatchError, load_weights, read_checkpoint
        from engine.checkpoints import without_training_only

        checkpoint = read_checkpoint(weights)
        try:
            load_weights(model, without_training_only(model, dict(checkpoint)))
        except WeightsMismatchError as error:
            raise WeightsMismatchError(replace(error.report, source=str(weights))) from None
    return model.eval(), checkpoint


def network_logits(model: nn.Module, windows: Tensor) -> Tensor:
    """The head's logits at its own resolution, of our segmentor or of mmseg's EncoderDecoder."""
    segmentor: Any = model
    if hasattr(model, "logits"):
        logits: Tensor = segmentor.logits(windows)
    else:
        logits = segmentor.decode_head(segmentor.extract_feat(windows))
    return logits


def classes_of(
    config: Config, num_classes: int, checkpoint: Mapping[str, Any] | None = None
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours of the classes, by index.

    Taken from what training stored in the checkpoint, else from the ``space`` of the config's data
    sets, else from the only label space with this number of classes.
    """
    stored = ((checkpoint or {}).get("meta") or {}).get("dataset_meta") or {}
    if isinstance(stored, Mapping) and len(stored.get("classes") or ()) == num_classes:
        palette = stored.get("palette")
        if palette is not None and len(palette) == num_classes:
            return tuple(map(str, stored["classes"])), _as_palette(palette)
    from .label_spaces import SPACES

    named = [SPACES[name] for name in _spaces_of(config) if name in SPACES]
    for space in (*named, *SPACES.values()):
        if len(space.classes) == num_classes:
            return tuple(space.classes), _as_palette(space.palette)
    return tuple(f"class {i}" for i in range(num_classes)), _distinct_colours(num_classes)


def _as_palette(palette: Sequence[Sequence[int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in palette)


def _distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    import colorsys

    # steps of the golden ratio round the colour circle: neighbours never look alike
    hues = [(0.6 + i * 0.618034) % 1 for i in range(count)]
    values = (0.95, 0.7, 0.85)
    rgb = [colorsys.hsv_to_rgb(hue, 0.65, values[i % 3]) for i, hue in enumerate(hues)]
    return _as_palette([[round(255 * v) for v in colour] for colour in rgb])


def _spaces_of(config: Any) -> Iterator[str]:
    """Every ``space="..."`` in the config's loaders."""
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        stack = [config.get(key)]
        while stack:
            node = stack.pop()
            if isinstance(node, Mapping):
                if isinstance(node.get("space"), str):
                    yield node["space"]
                stack.extend(node.values())
            elif isinstance(node, (list, tuple)):
                stack.extend(node)


def _pipeline(config: Config) -> Callable[[np.ndarray, str], dict[str, Any]]:
    """The config's test pipeline on an RGB array: -> dict(inputs=(3, h, w) uint8, data_samples)."""
    if "test_pipeline" not in config:
        raise ValueError(
            "the config has no test_pipeline, so images cannot be prepared; add e.g. "
            "test_pipeline=[dict(type='seg.LoadImage'), dict(type='PackSegInputs')]"
        )
    steps = [s for s in config.test_pipeline if s["type"].rpartition(".")[2] not in _LOADING]
    scope = config.get("default_scope", "mmseg")
    with DefaultScope.overwrite_default_scope(scope):
        transforms = [TRANSFORMS.build(dict(step)) for step in steps]

    def prepare(image: np.ndarray, path: str) -> dict[str, Any]:
        height, width = image.shape[:2]
        results: Any = {
            "img": np.ascontiguousarray(image[..., ::-1]),  # BGR, as LoadImage gives it
            "img_path": path,
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "seg_fields": [],
            "reduce_zero_label": False,
        }
        for transform in transforms:
            results = transform(results)
        if not isinstance(results, dict) or not isinstance(results.get("inputs"), Tensor):
            raise ValueError("test_pipeline: its last step should be dict(type='PackSegInputs')")
        return results

    return prepare


def _read(image: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    if isinstance(image, (str, Path)):
        from .transforms.loading import read_image

        return read_image(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"an image is a path or an (H, W, 3) uint8 RGB array, got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        remedy = ""
        if image.dtype == np.uint16:
            remedy = "; reduce 16-bit values first: (image >> 8).astype(np.uint8)"
        elif image.ndim == 2:
            remedy = "; repeat a grey image's channel: np.dstack([image] * 3)"
        elif image.ndim == 3 and image.shape[2] == 4:
            remedy = "; drop the alpha channel: image[..., :3]"
        raise ValueError(
            "an image is a path or an (H, W, 3) uint8 RGB array, got "
            f"{image.dtype} {image.shape}{remedy}"
        )
    return image
