"""A short recipe: SGD with Nesterov up to 0.2 in 6 epochs and down to 0 in 24, by iterations.

One rise and one fall of the rate (Smith and Topin 2017) reach in a fifth of the epochs about what
steps reach in all of them.
"""

train_cfg = dict(type="engine.EpochLoop", max_epochs=30, val_interval=5)
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(
        # BIN's gates, as its authors; the encoder of ILM has three names
        custom_keys={"gate": dict(lr_mult=10.0, decay_mult=0.0)},
        bypass_duplicate=True,
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=6, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        begin=6,
        end=30,
        convert_to_iter_based=True,
    ),
]
