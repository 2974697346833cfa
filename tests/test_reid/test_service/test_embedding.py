"""Queries are batched, answered in their own order, bounded in number and time."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from reid.service.embedding import Embedding
from reid.service.errors import ServiceError
from reid.service.metrics import Metrics

from .service_world import DIM, embed, make_settings, picture


def run(function, *, embedding=embed, **settings):
    """``await function(Embedding)`` with its end; also the sizes of the batches."""
    sizes: list[int] = []

    def counting(images):
        sizes.append(len(images))
        return embedding(images)

    async def main():
        one = Embedding(counting, DIM, make_settings(**settings), Metrics())
        try:
            return await function(one)
        finally:
            await asyncio.to_thread(one.close)

    return asyncio.run(main()), sizes


def test_queries_that_wait_together_go_together() -> None:
    pictures = [picture(seed, 10 + seed, 20) for seed in range(20)]

    async def all_at_once(one):
        return await asyncio.gather(*(one(image) for image in pictures))

    found, sizes = run(all_at_once, batch_size=8, batch_wait_seconds=0.5)
    assert np.allclose(found, embed(pictures), atol=1e-6)
    assert sizes == [8, 8, 4]


def test_an_image_that_spoils_its_batch_fails_alone() -> None:
    def picky(images):
        if any(image.shape[0] == 13 for image in images):
            raise ValueError("no")
        return embed(images)

    async def three(one):
        return await asyncio.gather(
            *(one(picture(0, height, 8)) for height in (12, 13, 14)), return_exceptions=True
        )

    (first, second, third), sizes = run(three, embedding=picky, batch_wait_seconds=0.5)
    assert np.allclose([first, third], embed([picture(0, 12, 8), picture(0, 14, 8)]), atol=1e-6)
    assert isinstance(second, ServiceError) and second.status_code == 422
    assert sizes == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (lambda images: np.full((len(images), DIM), np.nan), 422),
        (lambda images: np.zeros((len(images), DIM + 1)), 500),
        (lambda images: 1 / 0, 500),
    ],
)
def test_a_function_that_fails(bad, status) -> None:
    async def ask(one):
        with pytest.raises(ServiceError) as error:
            await one(picture(0))
        return error.value.status_code

    assert run(ask, embedding=bad)[0] == status


def test_too_many_and_too_late_are_told_to_come_back() -> None:
    going = threading.Event()

    def stuck(images):
        going.wait(30)
        return embed(images)

    async def flood(one):
        asked = [asyncio.ensure_future(one(picture(0)))]
        await asyncio.sleep(0.05)  # it is with the function now
        asked += [asyncio.ensure_future(one(picture(0))) for _ in range(4)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        going.set()
        return found

    found, sizes = run(
        flood, embedding=stuck, embed_waiting=3, wait_seconds=0.3, batch_wait_seconds=0
    )
    assert [error.status_code for error in found] == [503] * 5
    assert all(int(error.headers["Retry-After"]) >= 1 for error in found)
    assert sizes == [1]  # nobody waited any more for the others: they were not computed


def test_the_event_loop_runs_on_while_the_network_works() -> None:
    going = threading.Event()

    def slow(images):
        assert going.wait(30)
        return embed(images)

    async def main(one):
        query = asyncio.ensure_future(one(picture(0)))
        for _ in range(50):
            await asyncio.sleep(0)
        going.set()  # reached only because the loop was not blocked
        return await query

    assert run(main, embedding=slow)[0].shape == (DIM,)
