"""A frozen vision transformer (DINOv2 ViT-S/14) and a light head that alone is trained.

Needs timm. Weights are a file: `--cfg-options model.backbone.weights=dinov2_vits14_pretrain.pth`.
"""

_base_ = "./segformer.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="seg.FrozenViT",
        name="vit_small_patch14_dinov2",
        weights=None,
        out_indices=(2, 5, 8, 11),
        strides=None,
        frozen=True,
    ),
)
