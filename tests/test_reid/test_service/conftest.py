"""One application for the tests that only ask, and a new one for those that change rows."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("multipart") is None:
    collect_ignore_glob = ["test_*.py"]  # of what the extra 'serve' brings


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Of an application that no test changes."""
    from .service_world import client_of, make_gallery

    with client_of(make_gallery(tmp_path_factory.mktemp("service") / "gallery")) as one:
        yield one


@pytest.fixture
def fresh(tmp_path):
    """Of an application that may be changed; its gallery is ``tmp_path / 'gallery'``."""
    from .service_world import client_of, make_gallery

    with client_of(make_gallery(tmp_path / "gallery")) as one:
        yield one
