"""A token bucket, against the same arithmetic done by hand, and its bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from reid.service.rate_limit import RateLimit, client_key


def test_a_bucket_is_what_a_plain_simulation_says() -> None:
    now = 0.0
    limit = RateLimit(2.0, 5.0, 10, clock=lambda: now)
    content = 5.0
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        step, cost = float(rng.exponential(0.3)), float(rng.choice([1.0, 0.1, 2.0]))
        now += step
        content = min(5.0, content + 2.0 * step)
        wait = limit.wait("a", cost)
        if content >= cost:
            assert wait == 0
            content -= cost
        else:
            assert wait == pytest.approx((cost - content) / 2.0)
            refused += 1
    assert 0 < refused < 500


def test_clients_do_not_share_and_the_oldest_is_forgotten() -> None:
    limit = RateLimit(1.0, 1.0, 3, clock=lambda: 0.0)
    assert [limit.wait(name) for name in "abc"] == [0, 0, 0]
    assert limit.wait("a") > 0
    assert limit.wait("d") == 0 and len(limit) == 3
    assert limit.wait("a") > 0  # used last but one, hence remembered
    assert limit.wait("b") == 0  # forgotten, hence new


def test_no_limit() -> None:
    limit = RateLimit(0, 1.0, 3)
    assert not any(limit.wait("a") for _ in range(1000)) and len(limit) == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("testclient", "testclient"),
    ],
)
def test_who_an_address_is(address, key) -> None:
    assert client_key(address) == key
