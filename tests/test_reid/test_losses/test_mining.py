"""Mining against a naive search, for any counts of images per identity."""

import pytest
import torch

from reid.losses.mining import batch_hard, pair_masks, semi_hard


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


def test_pair_masks():
    positives, negatives = pair_masks(torch.tensor([3, 3, -1]))
    assert positives.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert negatives.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def naive_semi_hard(distances, labels, anchor, positive):
    """The nearest negative beyond the positive, else the farthest; None without a negative."""
    negatives = [i for i in range(len(labels)) if labels[i] != labels[anchor]]
    beyond = [i for i in negatives if distances[anchor, i] > distances[anchor, positive]]
    if beyond:
        return min(beyond, key=lambda i: distances[anchor, i].item())
    return max(negatives, key=lambda i: distances[anchor, i].item()) if negatives else None


@pytest.mark.parametrize("seed", range(20))
def test_semi_hard_equals_the_naive_search(seed):
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(0, 16, (), generator=generator))
    labels = torch.randint(-1, 4, (n,), generator=generator)
    distances = torch.rand(n, n, generator=generator)
    mined = semi_hard(distances, labels)
    assert mined.shape == (n, n)
    assert mined.dtype == torch.int64
    assert ((mined >= 0) & (mined < max(n, 1))).all()
    for a in range(n):
        for p in range(n):
            expected = naive_semi_hard(distances, labels, a, p)
            if p != a and labels[p] == labels[a] and expected is not None:
                assert mined[a, p] == expected


def test_a_negative_as_far_as_the_positive_is_not_beyond_it():
    distances = torch.tensor([[0.0, 0.5, 0.5, 0.7]]).expand(4, 4)
    assert semi_hard(distances, torch.tensor([0, 0, 1, 1]))[0, 1] == 3


@pytest.mark.parametrize("value", [0.0, torch.inf])
def test_semi_hard_ties_never_choose_an_image_of_the_same_identity(value):
    labels = torch.tensor([0, 0, 1, 1])
    mined = semi_hard(torch.full((4, 4), value), labels)
    assert (labels[mined] != labels[:, None]).all()
