"""One application for the tests that only ask, and a new one for those that change rows."""

from __future__ import annotations

import pytest

from .service_world import client_of, make_gallery


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Of an application that no test changes."""
    with client_of(make_gallery(tmp_path_factory.mktemp("service") / "gallery")) as one:
        yield one


@pytest.fixture
def fresh(tmp_path):
    """Of an application that may be changed; its gallery is ``tmp_path / 'gallery'``."""
    with client_of(make_gallery(tmp_path / "gallery")) as one:
        yield one
