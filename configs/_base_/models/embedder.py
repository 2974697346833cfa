"""The strong-baseline model (Luo et al. 2019); the backbone's depth and norm come from the leaf."""

model = dict(
    type="reid.Embedder",
    backbone=dict(type="backbones.ResNet", depth=50, last_stride=1, out_indices=(3,)),
    num_identities=None,  # counted in the training data
    pooling="avg",
    losses=[
        dict(type="reid.CrossEntropyLoss", label_smoothing=0.1),
        dict(type="reid.TripletLoss", margin=0.3),
    ],
)
