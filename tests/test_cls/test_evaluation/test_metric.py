from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from cls.evaluation.metric import ClassificationMetric
from cls.registry import METRICS

META = {"name": "toy", "split": "val", "fingerprint": "f", "classes": list("abcdefg")}


def data(n: int = 40, k: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(k, (n,), generator=generator)
    logits = torch.randn(n, k, generator=generator)
    logits[range(n), labels] += 1.0
    return logits, labels


def feed(metric: ClassificationMetric, logits, labels, order, size: int = 16) -> None:
    for part in torch.as_tensor(order).split(size):
        batch = {"label": labels[part], "index": part, "path": [f"{i}.png" for i in part.tolist()]}
        metric.process(batch, list(logits[part]))


def built(meta: dict[str, object] = META, **options: object) -> ClassificationMetric:
    metric = METRICS.build(dict(type="cls.ClassificationMetric", **options))
    metric.dataset_meta = meta
    return metric


def test_numbers_and_details() -> None:
    logits, labels = data()
    metric = built(worst=3)
    feed(metric, logits, labels, range(40))
    values = metric.evaluate(40)
    right = logits.argmax(1) == labels
    assert values["top-1"] == pytest.approx(right.float().mean().item())
    top5 = (logits.topk(5).indices == labels[:, None]).any(1)
    assert values["top-5"] == pytest.approx(top5.float().mean().item())
    by_class = [right[labels == c].float().mean().item() for c in range(7)]
    assert values["class_accuracy"] == pytest.approx(np.mean(by_class))
    details = metric.details
    assert details["accuracy"] == pytest.approx(by_class) and details["num_images"] == 40
    assert details["counts"].tolist() == [int((labels == c).sum()) for c in range(7)]
    assert np.trace(details["confusion"]) == right.sum() and details["confusion"].sum() == 40
    assert details["classes"] == tuple("abcdefg") and details["not_finite"] == 0
    assert details["data"] == {k: v for k, v in META.items() if k != "classes"}
    confidence = logits.double().softmax(1).max(1).values
    worst = max((i for i in range(40) if not right[i]), key=lambda i: confidence[i])
    assert len(details["worst"]) == 3
    assert details["worst"][0] == {
        "path": f"{worst}.png",
        "index": worst,
        "truth": "abcdefg"[labels[worst]],
        "prediction": "abcdefg"[logits[worst].argmax()],
        "confidence": pytest.approx(confidence[worst].item()),
    }
    loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
    assert details["extras"]["log_loss"] == pytest.approx(loss)
    assert 0 < details["extras"]["calibration_error"] < 1


def test_neither_order_nor_batches_matter_and_a_second_run_starts_anew() -> None:
    logits, labels = data()
    one, other = built(), built()
    feed(one, logits, labels, range(40))
    feed(other, logits, labels, list(range(40))[::-1], size=7)
    assert one.evaluate(40) == other.evaluate(40)
    assert one.details["worst"] == other.details["worst"]
    feed(one, logits[:20], labels[:20], range(20))
    one.evaluate(20)
    assert one.details["num_images"] == 20


def test_top_5_of_few_classes_is_left_out_and_said() -> None:
    logits, labels = data(k=5)
    metric = built({**META, "classes": list("abcde")})
    feed(metric, logits, labels, range(40))
    assert list(metric.evaluate(40)) == ["top-1", "class_accuracy"]
    assert metric.details["rules"]["left out"] == "top-5 of 5 classes, which is always right"
    logits, labels = data(k=1)
    metric = built({**META, "classes": ["a"]})
    feed(metric, logits, labels, range(40))
    assert metric.evaluate(40) == {"top-1": 1.0, "class_accuracy": 1.0}


def test_logits_that_are_not_finite_are_wrong_and_counted() -> None:
    logits, labels = data()
    logits[range(40), labels] = 50.0
    logits[3] = float("nan")
    metric = built()
    feed(metric, logits, labels, range(40))
    assert metric.evaluate(40)["top-1"] == pytest.approx(39 / 40)
    assert metric.details["not_finite"] == 1 and metric.details["confusion"].sum() == 39
    assert metric.details["counts"].sum() == 40
    assert metric.details["extras"]["log_loss"] == pytest.approx(0, abs=1e-6)


def test_an_absent_class_is_no_number() -> None:
    metric = built()
    feed(metric, torch.eye(7)[:3], torch.arange(3), range(3))
    assert metric.evaluate(3)["class_accuracy"] == 1
    assert np.isnan(metric.details["accuracy"][3:]).all()


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], [0, 1, 3]])
def test_each_image_once(order: list[int]) -> None:
    logits, labels = data()
    metric = built()
    feed(metric, logits, labels, order)
    with pytest.raises(RuntimeError, match="each of 3 images once"):
        metric.evaluate(3)


def test_mistakes() -> None:
    for options, words in (
        ({"topk": ()}, "topk"),
        ({"topk": (0,)}, "topk"),
        ({"worst": -1}, "wor"),
    ):
        with pytest.raises(ValueError, match=words):
            built(**options)
    logits, labels = data()
    with pytest.raises(ValueError, match="7 outputs, the data set toy 3 classes"):
        feed(built({**META, "classes": list("abc")}), logits, labels, range(4))
    with pytest.raises(ValueError, match="toy is empty"):
        built().evaluate(0)
    nameless = built({})
    feed(nameless, logits, labels, range(40))
    with pytest.raises(ValueError, match="names no classes"):
        nameless.evaluate(40)


def share_of(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    logits, labels = data()
    metric = built()
    feed(metric, logits, labels, range(25) if rank == 0 else range(25, 40))  # of different length
    found = {"values": metric.evaluate(40), "kept": bool(metric.details)}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path) -> None:
    multiprocessing.spawn(share_of, (str(tmp_path),), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    metric = built()
    feed(metric, *data(), range(40))
    assert [f["values"] for f in found] == [metric.evaluate(40)] * 2
    assert [f["kept"] for f in found] == [True, False]
