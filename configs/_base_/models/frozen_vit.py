"""A frozen vision transformer (DINOv2 ViT-S/14) and a light head that alone is trained.

Needs timm. Weights are a file: `--cfg-options model.backbone.weights=dinov2_vits14_pretrain.pth`.
"""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(
        type="seg.FrozenViT",
        name="vit_small_patch14_dinov2",
        weights=None,
        out_indices=(2, 5, 8, 11),
        strides=None,
        frozen=True,
    ),
    decode_head=dict(
        type="SegformerHead",
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
