"""BIN's on CIFAR: SGD 0.1, x0.1 after 81 and 122 of 164 epochs, gates ten times as fast."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=164, val_interval=1)
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
    # --bin-lr 10; engine.GateClampHook keeps gates in [0, 1]
    paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10.0, decay_mult=0.0)}),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[81, 122], gamma=0.1)]
