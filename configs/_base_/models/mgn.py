"""MGN (Wang et al. 2018, https://arxiv.org/abs/1804.01438): the whole, halves and thirds."""

_base_ = "./embedder.py"

model = dict(
    backbone=dict(out_indices=(2, 3)),
    pooling="max",
    embedding_dim=256,
    parts=dict(type="reid.Stripes", stripes=(2, 3), dim=256, branches=True, pooling="max"),
)
