"""The same labels as mmseg's own slide_inference, whole_inference and postprocess_result."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmseg")

from mmengine import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample

from seg.models.prediction import labels_of, predict_labels, predict_logits, window_starts
from seg.registry import MODELS


@MODELS.register_module(force=True)
class TinyBackbone(nn.Module):
    """Stride 4, with context and non-zero answers everywhere."""

    def __init__(self, stride: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride, 1)
        self.block = nn.Conv2d(8, 8, 3, 1, 2, dilation=2)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.block(self.stem(x).sigmoid()).tanh(),)


def segmentor(
    classes: int = 5, *, align_corners: bool = False, out_channels: int | None = None, **test_cfg
) -> EncoderDecoder:
    init_default_scope("mmseg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS.build(
            dict(
                type="mmseg.EncoderDecoder",
                backbone=dict(type="seg.TinyBackbone"),
                decode_head=dict(
                    type="FCNHead",
                    in_channels=8,
                    channels=8,
                    num_convs=0,
                    concat_input=False,
                    num_classes=classes,
                    out_channels=out_channels,
                    threshold=0.45 if out_channels == 1 else None,
                    align_corners=align_corners,
                ),
                test_cfg=ConfigDict(test_cfg or dict(mode="whole")),
            )
        )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model.eval().double()


def network(model: EncoderDecoder):
    return lambda x: model.decode_head.forward(model.extract_feat(x))


@torch.no_grad()
def mmsegs(
    model: EncoderDecoder, image: Tensor, out_size=None, padding=(0, 0, 0, 0)
) -> tuple[Tensor, Tensor]:
    """Labels (h, w) and logits (C, h, w) the way that mmseg gets them."""
    left, right, top, bottom = padding
    size = image.shape[1] - top - bottom, image.shape[2] - left - right
    meta = dict(
        ori_shape=tuple(out_size or size),
        img_shape=size,
        pad_shape=tuple(image.shape[1:]),
        padding_size=list(padding),
    )
    sample = SegDataSample(metainfo=meta)
    (result,) = model.predict(image[None], [sample])
    labels, logits = result.pred_sem_seg.data[0], result.seg_logits.data
    return labels.to(torch.uint8), logits


def check(model: EncoderDecoder, image: Tensor, batch_windows: int = 2, **geometry) -> None:
    labels, logits = mmsegs(model, image, **geometry)
    options = dict(model.test_cfg, align_corners=model.align_corners, batch_windows=batch_windows)
    binary = model.out_channels == 1
    extra = dict(threshold=model.decode_head.threshold) if binary else {}
    got = predict_labels(network(model), image, **options, **extra, **geometry)
    ours = predict_logits(network(model), image, **options, **geometry)
    assert got.dtype == torch.uint8 and got.shape == labels.shape
    # float32 positions in a float64 network: see _Taps
    torch.testing.assert_close(ours.sigmoid() if binary else ours, logits, atol=2e-5, rtol=1e-5)
    differs = got != labels
    if binary:
        margin = (logits[0] - model.decode_head.threshold).abs()
    else:
        best = logits.topk(2, 0).values
        margin = best[0] - best[1]
    assert not differs.any() or margin[differs].max() < 1e-4
    assert torch.equal(got, labels_of(ours, **extra))


SIZES = [(37, 53), (32, 64), (16, 16), (9, 70), (70, 9), (5, 7), (1, 1), (1, 40)]
WINDOWS = [((32, 32), (21, 21)), ((16, 24), (16, 24)), ((24, 16), (7, 5)), ((8, 8), (3, 8))]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop", "stride"), WINDOWS)
def test_slide_is_mmsegs(size, crop, stride, align_corners) -> None:
    model = segmentor(align_corners=align_corners, mode="slide", crop_size=crop, stride=stride)
    check(model, torch.randn(3, *size).double())


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_whole_is_mmsegs(size, align_corners) -> None:
    check(segmentor(align_corners=align_corners), torch.randn(3, *size).double())


@pytest.mark.parametrize("batch_windows", [1, 2, 3, 5, 7, 100])
def test_any_number_of_windows_together(batch_windows) -> None:
    model = segmentor(mode="slide", crop_size=(16, 16), stride=(10, 11))
    check(model, torch.randn(3, 50, 61).double(), batch_windows)


GEOMETRIES = [
    dict(out_size=(80, 110)),
    dict(out_size=(20, 25)),
    dict(out_size=(3, 90)),
    dict(out_size=(1, 1)),
    dict(out_size=(41, 57)),
    dict(padding=(0, 7, 0, 5)),
    dict(padding=(3, 4, 2, 6)),
    dict(padding=(3, 4, 20, 20), out_size=(9, 200)),
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_original_size_and_padding(geometry, mode, align_corners) -> None:
    windows = dict(crop_size=(16, 24), stride=(11, 13)) if mode == "slide" else {}
    model = segmentor(align_corners=align_corners, mode=mode, **windows)
    check(model, torch.randn(3, 41, 57).double(), **geometry)


@pytest.mark.parametrize("mode", ["slide", "whole"])
@pytest.mark.parametrize(("classes", "out_channels"), [(2, 1), (2, None), (1, None), (150, None)])
def test_few_and_many_classes(classes, out_channels, mode) -> None:
    windows = dict(crop_size=(16, 24), stride=(11, 13)) if mode == "slide" else {}
    model = segmentor(classes, out_channels=out_channels, mode=mode, **windows)
    if model.out_channels == 1:  # mmseg's default where the head has none
        model.decode_head.threshold = 0.3
    check(model, torch.randn(3, 30, 41).double())


@pytest.mark.parametrize("bytes_", [1, 4000, 50_000])
def test_size_of_the_bands_does_not_matter(monkeypatch, bytes_) -> None:
    monkeypatch.setattr("seg.models.prediction._BAND_BYTES", {"cpu": bytes_})
    model = segmentor(mode="slide", crop_size=(24, 16), stride=(7, 16))
    for geometry in GEOMETRIES:
        check(model, torch.randn(3, 41, 57).double(), **geometry)


@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_float32_labels_differ_only_by_rounding(mode) -> None:
    windows = dict(crop_size=(64, 64), stride=(43, 43)) if mode == "slide" else {}
    model = segmentor(19, mode=mode, **windows).float()
    image = torch.randn(3, 150, 210)
    labels, _ = mmsegs(model, image)
    got = predict_labels(network(model), image, **model.test_cfg)
    assert (got != labels).float().mean() < 1e-3


@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_nan_logits_stay_where_mmseg_has_them(mode) -> None:
    windows = dict(crop_size=(16, 16), stride=(16, 16)) if mode == "slide" else {}
    model = segmentor(mode=mode, **windows)
    image = torch.randn(3, 64, 64).double()
    image[:, 20, 40] = float("nan")
    labels, logits = mmsegs(model, image)
    got = predict_logits(network(model), image, **model.test_cfg)
    assert logits.isnan().any() and not logits.isnan().all()
    assert torch.equal(got.isnan(), logits.isnan())
    assert torch.equal(predict_labels(network(model), image, **model.test_cfg), labels)


def test_network_in_bfloat16() -> None:
    """Logits in bfloat16 are summed in float32."""
    model = segmentor(mode="slide", crop_size=(16, 16), stride=(5, 5)).float()
    image = torch.randn(3, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        logits = predict_logits(network(model), image, **model.test_cfg)
    assert logits.dtype == torch.float32
    exact = predict_logits(network(model), image, **model.test_cfg)
    assert 0 < (logits - exact).abs().max() < 0.1 * exact.abs().max()


def test_no_tensor_of_full_size_is_made() -> None:
    """Neither the image's nor a window's logits at full resolution."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    def logits(x: Tensor) -> Tensor:
        return torch.zeros(len(x), 64, x.shape[2] // 8, x.shape[3] // 8)

    image = torch.zeros(3, 512, 1024)
    for options in (
        dict(mode="whole"),
        dict(mode="whole", out_size=(700, 900)),
        dict(mode="slide", crop_size=(512, 512), stride=(512, 300)),
    ):
        with Watch():
            predict_labels(logits, image, **options)
    assert 2**20 < largest < 64 * 512 * 512 * 4 / 4


def test_gradients_are_not_kept() -> None:
    model = segmentor()
    assert not predict_logits(network(model), torch.randn(3, 8, 8).double()).requires_grad


def test_window_starts_cover_everything() -> None:
    for length, crop in itertools.product(range(1, 30), range(1, 12)):
        for stride in range(1, crop + 1):
            starts = window_starts(length, crop, stride)
            covered = {p for s in starts for p in range(s, s + min(crop, length))}
            assert covered == set(range(length)) and len(set(starts)) == len(starts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(mode="sliding"), "'whole' or 'slide', got 'sliding'"),
        (dict(mode="slide"), "needs crop_size and stride"),
        (dict(mode="slide", crop_size=(8, 8), stride=(9, 8)), "no gaps"),
        (dict(mode="slide", crop_size=(8, 8), stride=(0, 8)), "between 1 and crop_size"),
        (dict(batch_windows=0), "batch_windows: expected 1 or more"),
        (dict(padding=(4, 4, 0, 0)), "leaves nothing"),
        (dict(padding=(-1, 0, 0, 0)), "padding"),
        (dict(out_size=(0, 5)), "out_size"),
    ],
)
def test_wrong_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        predict_labels(lambda x: x, torch.zeros(3, 8, 8), **options)


@pytest.mark.parametrize(
    ("image", "network", "message"),
    [
        (torch.zeros(1, 3, 8, 8), lambda x: x, r"\(3, H, W\) float tensor"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), lambda x: x, "normalised"),
        (torch.zeros(3, 8, 0), lambda x: x, "normalised"),
        (torch.zeros(3, 8, 8), lambda x: x[0], "should return"),
        (torch.zeros(3, 8, 8), lambda x: (x,), "got tuple"),
        (torch.zeros(3, 8, 8), lambda x: x.new_zeros(1, 300, 2, 2), "at most 256 classes"),
    ],
)
def test_wrong_image_or_network(image, network, message) -> None:
    with pytest.raises(ValueError, match=message):
        predict_labels(network, image)
