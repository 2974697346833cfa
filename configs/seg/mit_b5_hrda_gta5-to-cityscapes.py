"""SegFormer's MiT-B5 under HRDA's domain generalisation protocol, with rare-class sampling.

The multi-resolution fusion of HRDA itself is not built: this is its single-resolution network.
"""

_base_ = [
    "../_base_/models/segformer.py",
    "../_base_/datasets/gta5_512.py",
    "../_base_/schedules/seg_adamw_40k.py",
    "../_base_/runtime/seg_no_validation.py",
]

protocol = "hrda-dg"
model = dict(
    backbone=dict(
        _delete_=True,
        type="MixVisionTransformer",
        embed_dims=64,
        num_layers=[3, 6, 40, 3],
        num_heads=[1, 2, 5, 8],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(256, 256)),
)
test_dataloader = dict(_delete_=True, cityscapes=_base_.test_dataloader.cityscapes)
train_dataloader = dict(batch_size=2, sampler=dict(type="seg.RareClassSampler"))
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            "decode_head": dict(lr_mult=10.0),
            "norm": dict(decay_mult=0.0),
        }
    ),
)
