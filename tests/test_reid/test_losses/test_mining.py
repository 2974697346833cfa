"""Batch-hard mining against a naive search, for any counts of images per identity."""

import pytest
import torch

from reid.losses.mining import batch_hard, get_miner


def naive_batch_hard(distances, labels):
    """For each anchor (hardest positive, hardest negative), or None without one of the two."""
    n = len(labels)
    result = []
    for a in range(n):
        positives = [i for i in range(n) if i != a and labels[i] == labels[a]]
        negatives = [i for i in range(n) if labels[i] != labels[a]]
        result.append(
            (
                max(positives, key=lambda i: distances[a, i].item()),
                min(negatives, key=lambda i: distances[a, i].item()),
            )
            if positives and negatives
            else None
        )
    return result


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_naive_search_for_random_counts(seed):
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 20, (), generator=generator))
    labels = torch.randint(-1, 6, (n,), generator=generator)
    distances = torch.rand(n, n, generator=generator)
    mined = batch_hard(distances, labels)
    for i, expected in enumerate(naive_batch_hard(distances, labels.tolist())):
        assert mined.valid[i].item() == (expected is not None)
        if expected is not None:
            assert (mined.positive[i].item(), mined.negative[i].item()) == expected


def test_counts_1_1_4():
    labels = torch.tensor([7, 8, 9, 9, 9, 9])
    mined = batch_hard(torch.rand(6, 6, generator=torch.Generator().manual_seed(0)), labels)
    assert mined.valid.tolist() == [False, False, True, True, True, True]
    assert (labels[mined.positive[2:]] == 9).all()
    assert (mined.positive[2:] != torch.arange(2, 6)).all()
    assert (labels[mined.negative[2:]] != 9).all()


@pytest.mark.parametrize("value", [0.0, torch.inf])
def test_ties_never_choose_an_image_that_is_no_candidate(value):
    labels = torch.tensor([0, 0, 1, 1])
    mined = batch_hard(torch.full((4, 4), value), labels)
    assert mined.valid.all()
    assert (labels[mined.positive] == labels).all()
    assert (mined.positive != torch.arange(4)).all()
    assert (labels[mined.negative] != labels).all()


@pytest.mark.parametrize("labels", [[], [3], [3, 3, 3], [1, 2, 3]])
def test_nothing_to_mine(labels):
    labels = torch.tensor(labels, dtype=torch.int64)
    n = len(labels)
    mined = batch_hard(torch.rand(n, n), labels)
    assert mined.positive.shape == mined.negative.shape == mined.valid.shape == (n,)
    assert mined.positive.dtype == mined.negative.dtype == torch.int64
    assert mined.valid.dtype == torch.bool
    assert not mined.valid.any()
    assert ((mined.positive >= 0) & (mined.positive < max(n, 1))).all()


def test_selection_has_no_graph():
    distances = torch.rand(4, 4, requires_grad=True)
    assert not any(t.requires_grad for t in batch_hard(distances, torch.tensor([0, 0, 1, 1])))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"one of batch_hard, got 'easy'"):
        get_miner("easy")
