"""The strong baseline: ResNet-50 with ImageNet weights (give them with --weights), 256x128."""

_base_ = [
    "../_base_/models/embedder.py",
    "../_base_/datasets/market1501_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]

model = dict(
    losses=[
        dict(type="reid.CrossEntropyLoss", label_smoothing=0.1),
        dict(type="reid.TripletLoss", margin=0.3),
        dict(type="reid.CenterLoss", weight=0.0005, center_lr=0.5),
    ],
)
