"""Segmentation without validation during training: for protocols that train on all the data."""

_base_ = "./seg.py"

val_cfg = None
val_evaluator = None
