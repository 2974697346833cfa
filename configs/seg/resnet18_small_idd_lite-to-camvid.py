"""The other way: trained on IDD-lite, tested there and on CamVid."""

_base_ = "./resnet18_small_camvid-to-idd_lite.py"

source_domain = "idd_lite"
train_dataloader = dict(dataset=dict(type="seg.IDDLite", root="data/idd_lite"))
