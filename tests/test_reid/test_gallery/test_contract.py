"""The contract of all galleries, kept by a folder, by milvus-lite, and by a Milvus server."""

from collections import defaultdict

import numpy as np
import pytest

from reid.gallery import Gallery

from .gallery_oracle import DIM, make_rows
from .milvus_server import CannotStart, listening_elsewhere, running_server
from .store_contract import StoreContract


class Reused:
    """Two galleries at an address, one a metric, emptied for a test: making one takes seconds."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.made = prefix, {}

    def __call__(self, metric: str) -> Gallery:
        if metric not in self.made:
            address = f"{self.prefix}/{metric}"
            self.made[metric] = Gallery.create(address, DIM, metric=metric, model="m")
        gallery = self.made[metric]
        gallery.remove(list(gallery.records))
        return gallery

    def close(self) -> None:
        for gallery in self.made.values():
            gallery.close()


@pytest.fixture(scope="module")
def in_file(tmp_path_factory):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    reused = Reused(f"milvus-lite:{tmp_path_factory.mktemp('lite')}/rows.db")
    yield reused
    reused.close()


@pytest.fixture(scope="module")
def on_server(tmp_path_factory):
    pytest.importorskip("pymilvus")
    try:
        with running_server(tmp_path_factory.mktemp("milvus")) as place:
            reused = Reused(f"milvus://{place}")
            yield reused
            reused.close()
    except CannotStart as reason:
        pytest.skip(f"no Milvus server: {reason}")


class Milvus(StoreContract):
    @pytest.fixture
    def again(self):
        opened = []

        def open_again(gallery):
            opened.append(Gallery.open(gallery.location, dim=DIM, model="m"))
            return opened[-1]

        yield open_again
        for gallery in opened:
            gallery.close()

    def test_ids_of_two_writers_differ(self, make, again):
        gallery = make("cosine")
        other = again(gallery)
        features, records = make_rows(2)
        given = [g.add(features, records) for g in (gallery, other, other, gallery)]
        assert sorted(i for ids in given for i in ids) == list(
            range(given[0][0], given[-1][-1] + 1)
        )
        assert len(gallery) == 8

    def test_copied_ids_come_after_all_others(self, make):
        gallery = make("cosine")
        features, records = make_rows(2)
        (first, last) = gallery.add(features, records)
        unit = gallery.vectors([first, last])
        with pytest.raises(ValueError, match=f"at least {last + 1}"):
            gallery.store.add(unit, records, None, np.array([last, last + 9]))
        wanted = [last + 5, last + 9]
        plain = [{"n": n} for n in range(2)]
        assert gallery.store.add(unit, plain, None, np.array(wanted)) == wanted
        assert gallery.add(features, records) == [last + 10, last + 11]


class TestFolder(StoreContract):
    @pytest.fixture
    def make(self, tmp_path):
        count = defaultdict(int)

        def make_one(metric):
            count[metric] += 1
            path = tmp_path / f"{metric}{count[metric]}"
            return Gallery.create(path, DIM, metric=metric, model="m")

        return make_one

    @pytest.fixture
    def again(self):
        return lambda gallery: Gallery.open(gallery.path)


class TestMilvusLite(Milvus):
    @pytest.fixture
    def make(self, in_file):
        return in_file


class TestMilvusServer(Milvus):
    @pytest.fixture
    def make(self, on_server):
        return on_server

    def test_the_server_is_seen_by_nobody_else(self, make):
        make("cosine")
        assert listening_elsewhere() == []
