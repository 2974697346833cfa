"""From scratch in minutes: AdamW 2e-3, 600 iterations of 8 crops, 30 of warm-up, poly 0.9."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    # BIN's gate learns ten times as fast and does not decay; engine.GateClampHook keeps it in 0..1
    paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10.0, decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0, begin=30, end=600, by_epoch=False),
]
