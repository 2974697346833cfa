"""What every kind of gallery must do, whatever keeps its rows.

A class that derives from :class:`StoreContract` gives a fixture ``make``: metric -> an empty
gallery of dimension ``DIM`` and of the model ``'m'``, whose next ids may be any; and ``again``:
gallery -> another client of the same.
"""

import numpy as np
import pytest

from reid.gallery import Gallery

from .gallery_oracle import DIM, assert_hits, brute_force, make_rows

JPEG = b"\xff\xd8\xff\xe0 a picture \x00\xff"
NASTY = ("'", '"', "\\", '" or id >= 0 or "', '\\" or true', "a\nb\t\0", "é\u2028\U0001f600", "%_")


class StoreContract:
    @pytest.fixture(params=["cosine", "euclidean"])
    def filled(self, request, make):
        """A gallery of 40 rows in two batches, their features and records by id."""
        gallery = make(request.param)
        features, records = make_rows(40, 1)
        features[7] = features[3]  # a tie
        ids = gallery.add(features[:25], records[:25]) + gallery.add(features[25:], records[25:])
        plain = [{k: v for k, v in r.items() if v is not None} for r in records]
        return gallery, dict(zip(ids, features, strict=True)), dict(zip(ids, plain, strict=True))

    @pytest.mark.parametrize(
        ("where", "keep"),
        [
            (None, lambda r: True),
            ({"pid": [1, 2, 5]}, lambda r: r["pid"] in (1, 2, 5)),
            ({"camera": None}, lambda r: "camera" not in r),
            ({"camera": {"$ne": 2}}, lambda r: r.get("camera") != 2),
            ({"time": {"$gte": 3, "$lt": 31.5}}, lambda r: 3 <= r["time"] < 31.5),
            ({"image": {"$gt": "1/3"}}, lambda r: r["image"] > "1/3"),
            ({"clothes": {"$nin": [{"upper": "red"}]}}, lambda r: "clothes" not in r),
            (lambda r: r["pid"] % 2 == 0, lambda r: r["pid"] % 2 == 0),
        ],
    )
    def test_search_is_that_of_a_plain_loop(self, filled, where, keep):
        gallery, features, records = filled
        queries = make_rows(2, 9)[0]
        for k in (1, 4, 60):
            hits = gallery.search(queries, k, where=where)
            assert hits.exact
            for query, found, allowed in zip(queries, hits, hits.allowed, strict=True):
                assert allowed == sum(map(keep, records.values()))
                expected = brute_force(
                    features, records, query, k, gallery.metric, lambda _, r: keep(r)
                )
                assert_hits(found, expected)
                assert [hit.record for hit in found] == [records[hit.id] for hit in found]

    def test_exclusions_go_by_query(self, filled):
        gallery, features, records = filled
        queries = make_rows(4, 9)[0]
        cameras, first = [1, None, 3, 1], min(features)
        out = [[first], [], [first + 1, first + 5, 10**12], []]
        hits = gallery.search(queries, 5, exclude_cameras=cameras, exclude_ids=out)
        for query, camera, ids, found, allowed in zip(
            queries, cameras, out, hits, hits.allowed, strict=True
        ):

            def keep(row, record, camera=camera, ids=ids):
                return row not in ids and (camera is None or record.get("camera") != camera)

            assert_hits(found, brute_force(features, records, query, 5, gallery.metric, keep))
            assert allowed == sum(keep(row, record) for row, record in records.items())

    def test_ties_come_by_ascending_id(self, filled):
        gallery, features, _ = filled
        first = min(features)
        for k in (1, 2):
            (hits,) = gallery.search(features[first + 3][None], k)
            assert [hit.id for hit in hits] == [first + 3, first + 7][:k]

    def test_thresholds_and_ranges(self, filled):
        gallery, features, records = filled
        queries = make_rows(2, 9)[0]
        lowest = 0.1 if gallery.metric == "cosine" else -5.0
        for hits, k in (
            (gallery.search(queries, 60, min_score=lowest), 60),
            (gallery.search_range(queries, lowest), 60),
            (gallery.search_range(queries, lowest, limit=2), 2),
        ):
            for query, found in zip(queries, hits, strict=True):
                expected = brute_force(features, records, query, 60, gallery.metric)
                assert_hits(found, [pair for pair in expected if pair[1] >= lowest][:k])

    @pytest.mark.parametrize(
        ("where", "passes"),
        [
            (None, lambda r: True),
            ({"camera": [0, 1], "time": {"$lt": 9}}, lambda r: r.get("camera") in (0, 1)),
            ({"clothes": {"upper": "red"}}, lambda r: "clothes" in r),
            (lambda r: r["pid"] == 1, lambda r: r["pid"] == 1),
        ],
    )
    def test_rows_that_pass_a_filter(self, filled, where, passes):
        gallery, _, records = filled
        expected = [row for row, record in records.items() if passes(record)]
        if isinstance(where, dict) and "time" in where:
            expected = [row for row in expected if records[row]["time"] < 9]
        assert gallery.ids(where) == expected
        assert gallery.records_of(expected[::-1]) == [records[row] for row in expected[::-1]]
        assert gallery.records_of([]) == gallery.pictured([]) == []
        assert gallery.pictured([*expected, 10**12]) == [False] * (len(expected) + 1)
        with pytest.raises(KeyError):
            gallery.records_of([expected[0], 10**12])
        with pytest.raises(ValueError, match="'colour', which no record"):
            gallery.ids({"colour": 1})

    def test_groups(self, filled):
        gallery, features, records = filled
        query = make_rows(1, 9)[0]
        (hits,) = gallery.search(query, 3, group_by="pid")
        best = {}
        for row, score in brute_force(features, records, query[0], 60, gallery.metric):
            best.setdefault(records[row]["pid"], (row, score))
        assert_hits(hits, list(best.values())[:3])

    def test_reranking_expansion_and_tracklets(self, filled, tmp_path):
        gallery, features, records = filled
        twin = Gallery.create(tmp_path / "twin", DIM, metric=gallery.metric)
        twin.add(np.stack(list(features.values())), list(records.values()))
        first, queries = min(features), make_rows(3, 9)[0]

        def answers(result, start):
            return [
                [(h.id - start, h.score, h.record, h.reranked) for h in hits] for hits in result
            ]

        calls = [
            lambda g: g.search(queries, 5, rerank=20),
            lambda g: g.search_tracklets([queries[:2], queries[2:]], 4, pool="best"),
            lambda g: g.search_tracklets([queries[:2], queries[2:]], 4),
        ]
        if gallery.metric == "cosine":
            calls.append(lambda g: g.search(queries, 5, expand=3))
        for call in calls:
            assert answers(call(gallery), first) == answers(call(twin), 0)

    def test_ids_are_never_given_twice(self, make):
        gallery = make("cosine")
        features, records = make_rows(3)
        first = gallery.add(features, records)
        assert first == list(range(first[0], first[0] + 3))
        assert gallery.remove(first[1:]) == 2
        gallery.compact()
        second = gallery.add(features, records)
        assert second == list(range(first[0] + 3, first[0] + 6))
        assert len(gallery) == 4 and list(gallery.records) == [first[0], *second]
        (hits,) = gallery.search(features[1:2], 9)
        assert sorted(hit.id for hit in hits) == [first[0], *second]

    def test_removing_and_changing_are_all_or_none(self, filled):
        gallery, features, records = filled
        first = min(features)
        for wrong in ([first, 10**12], [-1, first]):
            with pytest.raises(ValueError, match="not in the gallery"):
                gallery.remove(wrong)
            with pytest.raises(ValueError, match="not in the gallery"):
                gallery.update({row_id: {"pid": 1} for row_id in wrong})
        assert dict(gallery.records) == records
        gallery.update({first: {"camera": None, "gate": "north", "pid": 77}})
        changed = {**records[first], "gate": "north", "pid": 77}
        changed.pop("camera", None)
        assert gallery.records[first] == changed
        assert gallery.fields() == ("camera", "clothes", "gate", "image", "pid", "time")
        (hits,) = gallery.search(features[first][None], 5, where={"gate": "north"})
        assert [(hit.id, hit.record) for hit in hits] == [(first, changed)]
        gallery.verify()

    def test_records_come_back_as_they_were(self, make):
        gallery = make("cosine")
        records = [
            {"big": 10**30, "small": -(10**30), "float": 0.1 + 0.2, "deep": {"a": [1, None, {}]}},
            {"text": "\ud800 half \0 \u2028", "ключ": "'\"\\", "true": True, "zero": 0, "e": ""},
            {},
        ]
        ids = gallery.add(make_rows(3)[0], records)
        assert [gallery.records[row_id] for row_id in ids] == records
        assert gallery.columns("big", "no") == {"big": [10**30, None, None], "no": [None] * 3}
        for field, value in (("big", 10**30), ("ключ", "'\"\\"), ("true", True), ("zero", 0.0)):
            (hits,) = gallery.search(make_rows(1)[0], 9, where={field: value})
            assert len(hits) == 1 and field in hits[0].record

    def test_numbers_truth_values_and_texts_are_three_things(self, make):
        gallery = make("cosine")
        values = [1, 1.0, True, "1", 0, False, 2**60, 2**60 + 1, -0.5, 2, None]
        gallery.add(make_rows(len(values))[0], [{"v": value, "time": 1} for value in values])

        def found(where):
            (hits,) = gallery.search(make_rows(1)[0], 99, where=where)
            return [hit.record.get("v") for hit in sorted(hits, key=lambda hit: hit.id)]

        def same(got, wanted):
            assert [(type(v), v) for v in got] == [(type(v), v) for v in wanted]

        same(found({"v": 1}), [1, 1.0])
        same(found({"v": True}), [True])
        same(found({"v": "1"}), ["1"])
        same(found({"v": 2**60 + 1}), [2**60 + 1])
        same(found({"v": {"$lt": 1}}), [0, -0.5])
        same(found({"v": {"$gt": 2**60}}), [2**60 + 1])
        same(found({"v": {"$gte": 1, "$lte": 2}}), [1, 1.0, 2])
        same(found({"v": {"$gte": "0"}}), ["1"])
        same(found({"v": {"$nin": [1, "1"]}}), [True, 0, False, 2**60, 2**60 + 1, -0.5, 2, None])
        same(found({"v": {"$in": [None, 2]}}), [2, None])
        same(found({"v": []}), [])

    def test_no_text_breaks_out_of_a_filter(self, make):
        gallery = make("cosine")
        ids = gallery.add(make_rows(len(NASTY))[0], [{"camera": t, "x": t, t: 1} for t in NASTY])
        query = make_rows(1)[0]
        for row_id, text in zip(ids, NASTY, strict=True):
            (hits,) = gallery.search(query, 99, where={"camera": text, "x": text, text: 1})
            assert [hit.id for hit in hits] == [row_id]
        others = gallery.search(np.repeat(query, len(ids), 0), 99, exclude_cameras=NASTY)
        for row_id, hits in zip(ids, others, strict=True):
            assert {hit.id for hit in hits} == {*ids} - {row_id}

    def test_long_texts_are_compared_whole(self, make):
        gallery = make("cosine")
        texts = [f"{'x' * 150}{end}" for end in "abc"]
        ids = gallery.add(make_rows(3)[0], [{"t": text} for text in texts])
        for where, wanted in (
            ({"t": texts[1]}, ids[1:2]),
            ({"t": {"$gt": texts[1]}}, ids[2:]),
            ({"t": {"$lte": texts[1]}}, ids[:2]),
        ):
            hits = gallery.search(make_rows(1)[0], 9, where=where)
            assert sorted(hit.id for hit in hits[0]) == wanted and hits.allowed[0] == len(wanted)

    def test_slips_of_the_pen_are_refused(self, filled):
        gallery, features, _ = filled
        query = make_rows(1)[0]
        for options, words in (
            ({"where": {"camra": 1}}, "no record of this gallery has"),
            ({"exclude_cameras": ["1"]}, "Use one type"),
            ({"where": lambda record: record["gate"]}, "record.get"),
            ({"model": "other"}, "cannot be compared"),
        ):
            with pytest.raises(ValueError, match=words):
                gallery.search(query, 3, **options)
        bad = make_rows(2)[0]
        for change, words in ((np.nan, "not finite"), (None, "dimension")):
            wrong = bad[:, :5] if change is None else np.where(bad == bad[0, 0], change, bad)
            with pytest.raises(ValueError, match=words):
                gallery.search(wrong, 3)
            with pytest.raises(ValueError, match=words):
                gallery.add(wrong, [{}, {}])
        if gallery.metric == "cosine":
            with pytest.raises(ValueError, match="zeros"):
                gallery.add(0 * bad, [{}, {}])
        with pytest.raises(ValueError, match="cannot be compared"):
            gallery.add(bad, [{}, {}], model="other")
        assert len(gallery) == len(features)

    def test_thumbnails(self, make):
        gallery = make("cosine")
        ids = gallery.add(make_rows(3)[0], [{}] * 3, thumbnails=[JPEG, None, JPEG + b"2"])
        gallery.update({ids[0]: {"pid": 1}})
        assert [gallery.thumbnail(row_id) for row_id in ids] == [JPEG, None, JPEG + b"2"]
        assert gallery.pictured([*ids, 10**12]) == [True, False, True, False]
        with pytest.raises(KeyError):
            gallery.thumbnail(10**12)
        with pytest.raises(KeyError):
            gallery.vectors([ids[0], 10**12])

    def test_blocks_are_all_rows_in_order(self, filled):
        gallery, features, records = filled
        gallery.remove([min(features) + 4])
        blocks = list(gallery.blocks(7))
        ids = np.concatenate([block.ids for block in blocks]).tolist()
        assert ids == sorted(set(features) - {min(features) + 4})
        assert all(0 < len(block.ids) <= 7 for block in blocks)
        assert [r for block in blocks for r in block.records] == [records[i] for i in ids]
        vectors = np.concatenate([block.vectors for block in blocks])
        np.testing.assert_array_equal(vectors, gallery.vectors(ids))

    def test_another_client_sees_what_was_written(self, filled, again):
        gallery, features, _ = filled
        other = again(gallery)
        other.refresh()
        assert not other.refresh()
        (row_id,) = gallery.add(*make_rows(1, 5))
        gallery.remove([min(features)])
        assert other.refresh() and not other.refresh()
        assert len(other) == len(features) and row_id in other.records
        query = make_rows(1, 5)[0]
        assert list(other.search(query, 5)) == list(gallery.search(query, 5))
        assert other.search(query, 1)[0][0].id == row_id

    def test_nothing_in_it(self, make):
        gallery = make("euclidean")
        query = make_rows(1)[0]
        hits = gallery.search(query, 3, where={"anything": 1}, exclude_cameras=[3])
        assert list(hits) == [[]] and hits.allowed.tolist() == [0]
        assert list(gallery.search_range(query, -9.0)) == [[]]
        assert (
            gallery.fields() == () and list(gallery.blocks()) == [] and dict(gallery.records) == {}
        )
        assert list(gallery.search(query[:0], 3)) == []
        gallery.verify()
