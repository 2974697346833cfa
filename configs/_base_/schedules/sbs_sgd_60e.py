"""As sbs_60e, with SGD 0.01, as fast-reid trains on VeRi-776; the cosine ends at 7.7e-5."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=60, val_interval=20)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=7.7e-5, begin=30, end=60, convert_to_iter_based=True),
]
