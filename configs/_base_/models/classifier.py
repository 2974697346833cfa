"""A network with its own classifier; depth, norm and number of classes come from the leaf."""

model = dict(
    type="cls.Classifier",
    backbone=dict(type="backbones.ResNet", depth=50, num_classes=1000),
    label_smoothing=0.0,
    mixing=[],
    weights=None,
)
