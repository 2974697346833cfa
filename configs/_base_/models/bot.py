"""The strong baseline's model and its three losses (Luo et al. 2019)."""

_base_ = "./embedder.py"

model = dict(
    losses=[
        dict(type="reid.CrossEntropyLoss", label_smoothing=0.1),
        dict(type="reid.TripletLoss", margin=0.3),
        dict(type="reid.CenterLoss", weight=0.0005, center_lr=0.5),
    ],
)
