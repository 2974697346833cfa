"""SGD 0.01, momentum 0.9, decay 5e-4, poly 0.9, 40,000 iterations: RobustNet's."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0, begin=0, end=40000, by_epoch=False)]
