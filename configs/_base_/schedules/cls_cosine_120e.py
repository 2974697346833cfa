"""SN's cosine: 5 epochs of warm-up from 0 to 0.1, then half a cosine to 0, by iterations."""

_base_ = "./cls_step_100e.py"

train_cfg = dict(max_epochs=120)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        begin=5,
        end=120,
        convert_to_iter_based=True,
    ),
]
