"""mmseg's EncoderDecoder with losses and style modules inside the backbone.

Both are config lines, and the backbone, ours or mmseg's, is not edited: forward hooks reach its
modules by name (see ``named_modules.py``)::

    model = dict(
        type="seg.Segmentor",
        backbone=dict(type="backbones.ResNet", depth=50, ibn="b"),
        feature_losses=[
            dict(
                type="seg.InstanceSelectiveWhitening",
                features=("bn1", "layer1.-1.IN", "layer2.-1.IN"),
            ),
        ],
        style=[dict(type="seg.MixStyle", after=("layer1", "layer2"))],
        ...
    )
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from backbones.norm import BN

from ..registry import MODELS
from .feature_loss import FeatureLoss
from .head_channels import check_channels, with_channels
from .named_modules import (
    channels_of,
    evaluating,
    find_module,
    measuring,
    refuse_compiled,
    transform_output,
)
from .photometric import photometric_copy
from .prediction import labels_of, predict_labels, predict_logits
from .style import StyleModule

# Keys of test_cfg that are passed on.
_PREDICTION = ("mode", "crop_size", "stride", "batch_windows")


@MODELS.register_module()
class Segmentor(EncoderDecoder):
    """Images -> labels, with feature losses and style modules.

    Differences from mmseg's ``EncoderDecoder``, whose arguments it takes:

    - ``in_channels`` and ``c1_in_channels: None`` of heads may be left out where the backbone
      states its ``out_channels``; numbers that do not fit are refused at once, with the right ones;
    - ``predict`` gives labels without full-size logits: ``pred_sem_seg`` is (1, H, W) uint8;
    - batch norms of neck and heads are ours (same names and weights), so that ``sync_bn`` works
      on any device.

    Args:
        feature_losses: configs of :class:`~seg.models.feature_loss.FeatureLoss`.
        style: configs of :class:`~seg.models.style.StyleModule`; they act in training only.
        photometric: arguments of ``photometric_copy`` (``brightness=0.8``, ...), which a
            selective whitening compares with.
        test_cfg: ``dict(mode="whole")``, or ``dict(mode="slide", crop_size=(h, w), stride=(h, w),
            batch_windows=4)``; with ``keep_logits=True`` predictions also hold ``seg_logits``.
        kwargs: backbone, decode_head, neck, auxiliary_head, train_cfg, data_preprocessor, ...

    Raises:
        ValueError: channels that do not fit, names of modules that do not exist, two losses of one
            name, or feature losses in a compiled backbone.
    """

    # what a checkpoint may hold and a model for evaluation may lack
    training_only = ("auxiliary_head.", "feature_losses.")

    def __init__(
        self,
        *args: Any,
        feature_losses: Sequence[Mapping[str, Any]] = (),
        style: Sequence[Mapping[str, Any]] = (),
        photometric: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, test_cfg=ConfigDict(test_cfg or {"mode": "whole"}), **kwargs)
        for name in ("neck", "decode_head", "auxiliary_head"):
            if hasattr(self, name):
                _use_our_batch_norms(getattr(self, name))
        self.photometric = dict(photometric or {})
        self.feature_losses = nn.ModuleList(MODELS.build(dict(cfg)) for cfg in feature_losses)
        self.style = nn.ModuleList(MODELS.build(dict(cfg)) for cfg in style)
        self._configure_feature_losses()
        for module in self.style:
            if not isinstance(module, StyleModule):
                raise ValueError(f"style: {type(module).__name__} is no seg.models.StyleModule")
            for name in module.after:
                transform_output(self.backbone, name, module)

    @property
    def _losses(self) -> list[FeatureLoss]:
        return list(self.feature_losses)  # type: ignore[arg-type]

    def _configure_feature_losses(self) -> None:
        losses = self._losses
        for loss in losses:
            if not isinstance(loss, FeatureLoss):
                raise ValueError(
                    f"feature_losses: {type(loss).__name__} is no seg.models.FeatureLoss"
                )
        names = [loss.loss_name for loss in losses]
        if len(set(names)) < len(names):
            raise ValueError(
                f"feature_losses of one name hide each other, got {names}; give each its own "
                "loss_name"
            )
        features = list(dict.fromkeys(name for loss in losses for name in loss.features))
        for name in features:
            find_module(self.backbone, name)
        if features:
            channels = channels_of(self.backbone, features)
            for loss in losses:
                loss.configure(channels)

    # ----------------------------------------------------------------------------------- heads

    @property
    def _head_inputs(self) -> Sequence[int] | None:
        """Channels of the maps that heads get, or None if nobody says."""
        source = self.neck if self.with_neck else self.backbone
        channels = getattr(source, "out_channels", None)
        return channels if isinstance(channels, (tuple, list)) else None

    def _init_decode_head(self, decode_head: Mapping[str, Any]) -> None:
        super()._init_decode_head(with_channels(decode_head, self._head_inputs))
        check_channels(self.decode_head, self._head_inputs)

    def _init_auxiliary_head(self, auxiliary_head: Any) -> None:
        if auxiliary_head is None:
            return
        name, maps = "auxiliary_head", self._head_inputs
        if isinstance(auxiliary_head, (list, tuple)):
            super()._init_auxiliary_head([with_channels(h, maps, name) for h in auxiliary_head])
            heads = list(self.auxiliary_head)
        else:
            super()._init_auxiliary_head(with_channels(auxiliary_head, maps, name))
            heads = [self.auxiliary_head]
        for head in heads:
            check_channels(head, maps, name)

    # -------------------------------------------------------------------------------- training

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """Losses of heads (as mmseg's) and of features, for (N, 3, H, W) normalised images."""
        if self.style:
            refuse_compiled(self.backbone)
        if self.feature_losses and self.training:
            self._gather(inputs)
        with measuring(self.backbone, _measures(self._losses)) as measured:
            try:
                losses: dict[str, Tensor] = super().loss(inputs, data_samples)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):  # torch's batch norm
                    raise
                raise ValueError(
                    f"a batch norm got a single value per channel from a batch of {len(inputs)}: "
                    "heads that pool the image to 1x1 (ASPP, PSP, UPer) cannot train on one "
                    "image. Use a larger batch per process (or sync_bn='torch' with several "
                    "processes), or norm_cfg=dict(type='GN', num_groups=32) in the head"
                ) from error
        for loss, results in zip(self._losses, _by_loss(self._losses, measured), strict=True):
            losses[loss.loss_name] = loss(results)
        return losses

    @torch.no_grad()
    def _gather(self, inputs: Tensor) -> None:
        """Show losses that ask for it the batch and its photometric copy."""
        curious = [loss for loss in self._losses if loss.wants_copies]
        if not curious:
            return
        copies = photometric_copy(inputs, **self._colours(), **self.photometric)
        views = []
        with evaluating(self):  # running statistics must not move, styles must not change
            for images in (inputs, copies):
                with measuring(self.backbone, _measures(curious)) as measured:
                    self.backbone(images)
                views.append(_by_loss(curious, measured))
        # autocast would hand the weights that it has converted here, without gradient, to the loss
        torch.clear_autocast_cache()
        for loss, originals, changed in zip(curious, *views, strict=True):
            loss.gather(originals, changed)

    def _colours(self) -> dict[str, Any]:
        """How the data preprocessor has normalised images, and the order of their channels."""
        processor = self.data_preprocessor
        colours: dict[str, Any] = {"bgr": not getattr(processor, "_channel_conversion", False)}
        if getattr(processor, "_enable_normalize", False):
            colours |= {"mean": processor.mean.flatten(), "std": processor.std.flatten()}
        return colours

    # ------------------------------------------------------------------------------ prediction

    def logits(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) normalised images -> (B, C, h', w') logits, as the head leaves them."""
        logits: Tensor = self.decode_head(self.extract_feat(x))
        return logits

    def predict(
        self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Labels of each image at its original size.

        Args:
            inputs: (N, 3, H, W), normalised (and padded, if the preprocessor does).
            data_samples: what is known of the images: ``ori_shape``, ``padding_size``, ``flip``.

        Returns:
            The samples (new ones if none were given) with ``pred_sem_seg``, (1, h, w) uint8, and
            ``seg_logits``, (C, h, w), if ``test_cfg.keep_logits``.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        options = {key: self.test_cfg[key] for key in _PREDICTION if key in self.test_cfg}
        threshold = getattr(self.decode_head, "threshold", None) or 0.3
        for image, sample in zip(inputs, data_samples, strict=True):
            known = sample.metainfo
            padding = known.get("img_padding_size", known.get("padding_size", (0, 0, 0, 0)))
            place = {
                "align_corners": self.align_corners,
                "out_size": tuple(known["ori_shape"][:2]) if "ori_shape" in known else None,
                "padding": tuple(int(p) for p in padding),
            }
            flipped = [_FLIPPED[known.get("flip_direction")]] if known.get("flip") else []
            if self.test_cfg.get("keep_logits"):
                logits = predict_logits(self.logits, image, **options, **place).flip(flipped)
                sample.set_data({"seg_logits": PixelData(data=logits)})
                labels = labels_of(logits, threshold)
            else:
                labels = predict_labels(
                    self.logits, image, threshold=threshold, **options, **place
                ).flip(flipped)
            sample.set_data({"pred_sem_seg": PixelData(data=labels[None])})
        return list(data_samples)


# Which dimension of (..., h, w) to turn round.
_FLIPPED = {"horizontal": -1, "vertical": -2}


def _measures(losses: Sequence[FeatureLoss]) -> list[tuple[str, Any]]:
    return [(name, loss.measure) for loss in losses for name in loss.features]


def _by_loss(
    losses: Sequence[FeatureLoss], measured: Sequence[Tensor | None]
) -> list[list[Tensor]]:
    """What was measured of each loss's features, in the order of :func:`_measures`."""
    rest = iter(measured)
    parts = []
    for loss in losses:
        found = {name: next(rest) for name in loss.features}
        absent = [name for name, value in found.items() if value is None]
        if absent:
            raise ValueError(
                f"{type(loss).__name__}: {absent} did not run in this forward pass of the "
                "backbone; name modules that always run"
            )
        parts.append([value for value in found.values() if value is not None])
    return parts


def _use_our_batch_norms(module: nn.Module) -> None:
    """Exchange torch's 2-d batch norms inside ``module`` by ours, in place."""
    for parent in list(module.modules()):
        for name, old in list(parent.named_children()):
            if type(old) is not nn.BatchNorm2d:
                continue
            new = BN(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
            new.load_state_dict(old.state_dict())
            for key, parameter in old.named_parameters():
                new.get_parameter(key).requires_grad_(parameter.requires_grad)
            setattr(parent, name, new)
