"""A frozen DINOv2 ViT-S with a light head, under Rein's protocol. Needs timm and the weights' file.

`--cfg-options model.backbone.weights=dinov2_vits14_pretrain.pth`
"""

_base_ = [
    "../_base_/models/frozen_vit.py",
    "../_base_/datasets/gta5_512.py",
    "../_base_/schedules/seg_adamw_40k.py",
    "../_base_/runtime/seg_no_validation.py",
]

protocol = "rein-512"
model = dict(test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)))
