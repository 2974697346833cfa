from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from seg.evaluation.boundary import BoundaryCounts
from seg.evaluation.confusion import ConfusionMatrix
from seg.evaluation.metric import SegmentationMetric
from seg.registry import METRICS

NAMES = ("road", "car", "sky", "train")
META = {"classes": NAMES, "palette": [[i, i, i] for i in range(4)], "name": "toy", "split": "val"}


def maps(index: int, shape: tuple[int, int] = (24, 40)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(index)
    truth = cv2.resize(generator.integers(0, 4, (3, 5), np.uint8), shape[::-1], interpolation=0)
    prediction = np.where(generator.random(shape) < 0.2 + 0.1 * index, 2, truth).astype(np.uint8)
    truth[:3] = 255
    return truth, prediction


def sample(index: int, **changes: object) -> SegDataSample:
    truth, prediction = maps(index)
    data = SegDataSample(metainfo={"img_path": f"/data/toy/val/{index:02d}.png"})
    data.gt_sem_seg = PixelData(data=torch.from_numpy(truth).long()[None])
    data.pred_sem_seg = PixelData(data=torch.from_numpy(prediction).long()[None])
    for key, value in changes.items():
        data.set_data({key: PixelData(data=value)})
    return data


def metric(**options: object) -> SegmentationMetric:
    built = METRICS.build(dict(type="seg.SegmentationMetric", **options))
    built.dataset_meta = META
    return built


def test_numbers_and_details_through_mmengines_evaluator() -> None:
    own = SegmentationMetric(boundary=True, subsets={"vehicles": ["car", "train"]})
    evaluator = Evaluator([own])
    evaluator.dataset_meta = META
    for start in (0, 2, 4):
        batch = [sample(i) for i in range(start, min(start + 2, 5))]
        evaluator.process(data_samples=batch, data_batch={})
    values = evaluator.evaluate(5)
    matrix, boundary = ConfusionMatrix(4), BoundaryCounts(4)
    for index in range(5):
        matrix.update(*maps(index))
        boundary.update(*maps(index))
    assert values == {
        "mIoU": matrix.mean_iou(),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "class_accuracy": matrix.mean_accuracy(),
        "mIoU_vehicles": pytest.approx(matrix.iou()[[1, 3]].mean()),
        "boundary_mIoU": boundary.mean_iou(),
    }
    details = own.details
    assert np.array_equal(details["confusion"], matrix.counts)
    assert np.array_equal(details["boundary_iou"], boundary.iou())
    assert details["classes"] == NAMES and details["data"]["name"] == "toy"
    ious = [image["mIoU"] for image in details["images"]]
    assert len(ious) == 5 and ious == sorted(ious)
    assert details["images"][0]["path"].endswith("04.png")  # the one with the most noise
    assert "over 4 of 4 classes" in details["rules"]["mean"]


def test_a_second_run_starts_anew() -> None:
    own = metric()
    for _ in range(2):
        own.process({}, [sample(0), sample(1)])
        values = own.evaluate(2)
    assert own.details["confusion"].sum() == sum((maps(i)[0] != 255).sum() for i in (0, 1))
    assert values["mIoU"] == pytest.approx(own.details["iou"].mean())


def test_classes_that_the_labels_cannot_contain() -> None:
    own = metric()
    own.dataset_meta = {**META, "evaluated_classes": (0, 1, 2)}
    own.process({}, [sample(i) for i in range(3)])
    values = own.evaluate(3)
    assert values["mIoU"] == pytest.approx(own.details["iou"][:3].mean())
    assert "over 3 of 4 classes" in own.details["rules"]["mean"]


def test_plain_tensors_and_uint8_give_the_same() -> None:
    one, other = metric(), metric()
    one.process({}, [sample(0)])
    truth, prediction = (torch.from_numpy(m) for m in maps(0))
    other.process(
        {}, [{"img_path": "x.png", "gt_sem_seg": {"data": truth}, "pred_sem_seg": prediction}]
    )
    assert one.evaluate(1) == other.evaluate(1)


def test_each_image_exactly_once() -> None:
    for indices, size in (((0, 1, 1), 3), ((0, 1), 3), ((0, 1, 2, 0), 3)):
        own = metric()
        own.process({}, [sample(i) for i in indices])
        with pytest.raises(RuntimeError, match=f"each of {size} images once"):
            own.evaluate(size)


def test_what_cannot_be_evaluated_names_the_file_and_the_remedy() -> None:
    own = metric()
    with pytest.raises(ValueError, match=r"03.png: the truth is 24x40, the prediction 12x20.*Lo"):
        own.process({}, [sample(3, pred_sem_seg=torch.zeros(1, 12, 20))])
    with pytest.raises(ValueError, match=r"03.png: the prediction holds \[9\]"):
        own.process({}, [sample(3, pred_sem_seg=torch.full((1, 24, 40), 9))])
    with pytest.raises(ValueError, match=r"03.png: labels: expected values 0..255, got -1"):
        own.process({}, [sample(3, gt_sem_seg=torch.full((1, 24, 40), -1))])
    with pytest.raises(ValueError, match=r"03.png: expected one label map"):
        own.process({}, [sample(3, pred_sem_seg=torch.zeros(2, 24, 40))])
    unlabelled = sample(3)
    del unlabelled.gt_sem_seg
    with pytest.raises(ValueError, match=r"03.png: no labels.*seg.LoadLabels"):
        own.process({}, [unlabelled])
    unpredicted = sample(3)
    del unpredicted.pred_sem_seg
    with pytest.raises(ValueError, match=r"03.png: no prediction"):
        own.process({}, [unpredicted])


def test_degenerate_data_sets() -> None:
    with pytest.raises(ValueError, match="the data set is empty"):
        metric().evaluate(0)
    void = metric()
    void.process({}, [sample(0, gt_sem_seg=torch.full((1, 24, 40), 255))])
    with pytest.raises(ValueError, match="none of the 1 images has a labelled pixel"):
        void.evaluate(1)
    nameless = SegmentationMetric()
    with pytest.raises(ValueError, match="names no classes"):
        nameless.process({}, [sample(0)])
    for options in ({"pictures": -1}, {"boundary_ratio": 0}):
        with pytest.raises(ValueError, match="expected"):
            SegmentationMetric(**options)


def inputs(*indices: int) -> dict[str, object]:
    """Images whose blue channel says their index."""
    images = [torch.zeros(3, 24, 40, dtype=torch.uint8) for _ in indices]
    for image, index in zip(images, indices, strict=True):
        image[0] = 20 * index
    return {"inputs": images}


def test_pictures_are_a_fixed_sample_and_the_worst() -> None:
    chosen = []
    for order in ((0, 1, 2, 3, 4, 5), (5, 3, 1, 0, 2, 4)):
        own = metric(pictures=2)
        for index in order:
            own.process(inputs(index), [sample(index)])
        own.evaluate(6)
        chosen.append([(p.path, p.why) for p in own.details["pictures"]])
    assert chosen[0] == chosen[1]
    why = [w for _, w in chosen[0]]
    assert why.count("sample") == 2 and 0 <= why.count("worst") <= 2
    worst = {image["path"] for image in own.details["images"][:2]}
    assert worst <= {path for path, _ in chosen[0]}
    for picture in own.details["pictures"]:
        index = int(Path(picture.path).stem)
        image, truth, prediction = picture.arrays()
        assert np.array_equal(truth, maps(index)[0])
        assert np.array_equal(prediction, maps(index)[1])
        assert abs(int(image[..., 2].mean()) - 20 * index) < 6  # blue, in RGB


def test_pictures_without_a_batch_come_from_the_file_or_not_at_all(tmp_path) -> None:
    own = metric(pictures=3)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 80, 3), 90, np.uint8))
    truth, prediction = maps(0)
    for name in ("a.png", "absent.png"):
        own.process(None, [
            {"img_path": str(tmp_path / name), "gt_sem_seg": {"data": torch.from_numpy(truth)},
             "pred_sem_seg": {"data": torch.from_numpy(prediction)}}
        ])  # fmt: skip
    own.evaluate(2)
    (picture,) = own.details["pictures"]
    assert picture.path.endswith("a.png") and picture.arrays()[0].shape == (24, 40, 3)


def test_large_pictures_are_reduced() -> None:
    own = metric(pictures=1)
    truth = np.zeros((400, 1600), np.uint8)
    truth[:, 800:] = 1
    own.process(
        {"inputs": [torch.zeros(3, 200, 800, dtype=torch.uint8)]},
        [{"img_path": "x.png", "gt_sem_seg": torch.from_numpy(truth), "pred_sem_seg": truth}],
    )
    own.evaluate(1)
    (picture,) = own.details["pictures"]
    assert picture.arrays()[1].shape == (160, 640)
    assert np.unique(picture.arrays()[1]).tolist() == [0, 1]


def share_of(rank: int, folder: str) -> None:
    """Process 0 has images 0, 2, 4; process 1 has 1 and 3; then a share that came twice."""
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    own = metric(boundary=True, pictures=1)
    for index in range(rank, 5, 2):
        own.process(inputs(index), [sample(index)])
    values = own.evaluate(5)
    torch.save({"values": values, "main": bool(own.details)}, f"{folder}/{rank}.pt")
    own.process(inputs(0), [sample(0)])  # both processes: image 0 twice
    try:
        own.evaluate(1)
    except RuntimeError as error:
        Path(folder, f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_of_unequal_shares(tmp_path) -> None:
    mp.spawn(share_of, (str(tmp_path),), nprocs=2)
    alone = metric(boundary=True)
    alone.process({}, [sample(i) for i in range(5)])
    expected = alone.evaluate(5)
    got = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert got[0]["values"] == got[1]["values"] == expected
    assert [g["main"] for g in got] == [True, False]
    # what is wrong is said by all processes, none waits for ever
    for rank in (0, 1):
        assert "each of 1 images once" in (tmp_path / f"{rank}.txt").read_text()
