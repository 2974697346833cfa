"""AdamW 1e-4, 1,500 iterations of warm-up, poly, 40,000 iterations: what Rein and mmseg use."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0, begin=1500, end=40000, by_epoch=False),
]
