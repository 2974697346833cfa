from __future__ import annotations

import io

import pytest
from rich.console import Console

from reid.evaluation.report import (
    describe_domain,
    header,
    notes,
    pair_cells,
    pair_table,
    result_table,
    transfer_table,
    verification_table,
)
from reid.evaluation.seeds import aggregate


def printed(table: object, width: int = 180) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table, soft_wrap=True)
    return out.getvalue()


def test_the_title_stays_on_one_line(make_result) -> None:
    title = "a title that names data, split, AP rule and seed, longer than the table is wide"
    assert f"{title} (percent)\n" in printed(result_table([make_result(0)], title), width=40)


def test_results_with_their_average_and_their_protocol(make_result) -> None:
    rows = [make_result(0, name="bin_s0/[red]epoch_30"), make_result(1)]
    text = printed(result_table([*rows, aggregate(rows)], "toy [bold]"))
    for word in (
        *("toy [bold] (percent)", "bin_s0/[red]epoch_30", "bin (mean of 2)", "noon (source)"),
        *("dusk (target)", "plain", "re-ranking toy (k1 20)", "25.5 ± 0.7", "mINP"),
        "noon: noon (toy <split>): 9 valid of 10 queries, 40 gallery images, cosine distance, "
        "AP rule 'step', Resize 64x32, float32, data noon01234567",
        "seed 1, epoch 30, trained on noon, recipe 01234567, weights 111111111111",
    ):
        assert word in text, (word, text)
    assert "warning" not in text and "not comparable" not in text
    lines = text.splitlines()
    source, target = (
        next(i for i, line in enumerate(lines) if f"│ {domain}" in line)
        for domain in ("noon", "dusk")
    )
    assert source < target


def test_numbers_are_never_cut_on_a_narrow_terminal(make_result) -> None:
    row = make_result(0, name="a" * 70)
    for table in (result_table([row], "x"), transfer_table([row]), verification_table([row])):
        text = printed(table, width=40)
        assert "…" not in text and ("50.0" in text or "12.5" in text)


def test_draws_stand_with_their_deviation(make_result) -> None:
    row = make_result(0)
    row.domains["noon"].deviations = {"mAP": 0.012}
    row.domains["noon"].rules["draws"] = 10
    text = printed(result_table([row], "x"))
    assert "50.0 ± 1.2" in text and "mean of 10 draws" in text


def test_what_a_reader_must_not_overlook(make_result) -> None:
    rows = [make_result(0, warnings=["chosen on dusk"]), make_result(1)]
    rows[1].domains["dusk"].data["fingerprint"] = "other"
    rows[1].domains["noon"].rules["ap"] = "trapezoid"
    rows[1].domains["noon"].problem = "noon: no query identity occurs"
    rows[1].domains["noon"].notes = ["no camera labels"]
    del rows[1].domains["dusk"].refined["re-ranking toy (k1 20)"]
    rows.append(make_result(2, domains={"noon": rows[0].domains["noon"]}))
    rows.append(make_result(3, sources=["dusk"]))
    lines = notes(rows)
    for line in (
        "not comparable on dusk: tested on different data",
        "not comparable on noon: evaluated by different rules",
        "not comparable in their means: over different sets of targets",
        "warning: no numbers of bin_s1/epoch_30 on noon: noon: no query identity occurs",
        "noon: no camera labels",
        "warning: chosen on dusk",
    ):
        assert line in lines, (line, lines)
    unknown = make_result(0, seed=None, epoch=None, recipe="", weights="", sources=[])
    assert any(line.endswith("nothing known of its training") for line in notes([unknown]))


def test_a_missing_number_is_a_dash(make_result) -> None:
    row = make_result(0)
    row.domains["dusk"].metrics["mAP"] = float("nan")
    assert " - " in printed(result_table([row], "x"))
    text = printed(transfer_table([row]))
    assert " - " in text and "25.0" in text  # the gap in rank-1 is there


def test_sources_and_targets_are_marked(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    assert header("noon", rows[0]) == "noon (source)" and header("dusk", rows[0]) == "dusk (target)"
    unknown = make_result(0, sources=[])
    assert header("noon", unknown) == "noon" and transfer_table([unknown]) is None
    mixed = printed(result_table([unknown, make_result(1, sources=["dusk"])], "x"))
    assert "noon (target)" in mixed and "│ noon  " in mixed and "dusk (source)" in mixed
    text = printed(transfer_table([*rows, aggregate(rows)]))
    for word in ("source mAP", "gap rank-1", "50.0", "25.0", "± 0.7"):
        assert word in " ".join(text.replace("┃", " ").split()) or word in text


def test_camera_pairs(make_result) -> None:
    heads, lines = pair_cells(make_result(0).domains["noon"].camera_pairs)
    assert heads == ["from \\ to", "2", "10"]  # by number, not by letter
    assert lines == [["2", "-", "50.0"], ["10", "50.0", "-"]]
    rows = [make_result(0), make_result(1)]
    assert "50.5" in printed(pair_table(aggregate(rows), "noon"))
    text = printed(pair_table(rows[0], "noon", "rank-1"))
    assert "bin_s0/epoch_30 on noon: rank-1 from a query's camera" in text and "25.0" in text


def test_verification(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    text = printed(verification_table([*rows, aggregate(rows)]))
    flat = " ".join(text.replace("┃", " ").split())
    for word in ("EER", "12.5", "95.0", "50.1", "51.5 ± 0.7", "0.790", "20,000 of two"):
        assert word in flat, (word, text)
    rows[0].domains["noon"].verification = rows[0].domains["dusk"].verification = {}
    assert verification_table(rows[:1]) is None
    assert "bin_s0" not in printed(verification_table(rows))


@pytest.mark.parametrize("draws", [1, 2])
def test_a_domain_as_the_metric_kept_it(evaluate, draws: int) -> None:
    import numpy as np

    order = np.arange(4)
    more = {"trials": [(order[:2], order[2:])] * draws} if draws > 1 else {}
    features = np.eye(4, dtype=np.float32)
    _, details = evaluate(features, np.array([1, 2, 1, 2]), np.full(4, -1), 2, protocol="p", **more)
    text = describe_domain(details)
    assert text.startswith("toy (p): 2 valid of 2 queries, 2 gallery images")
    assert ("mean of 2 draws" in text) == (draws == 2)
