"""With instance-selective whitening of IBN-b's instance norms (Choi et al. 2021)."""

_base_ = "./resnet50_ibn_b_robustnet_gta5-to-cityscapes.py"

model = dict(
    feature_losses=[
        dict(
            type="seg.InstanceSelectiveWhitening",
            features=("bn1", "layer1.-1.IN", "layer2.-1.IN"),
        )
    ]
)
