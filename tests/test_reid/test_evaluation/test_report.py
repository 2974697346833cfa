from __future__ import annotations

import io

from rich.console import Console

from engine.loops import by_domain
from reid.evaluation.report import result_table


def test_table_in_percent() -> None:
    rows = {
        "model": by_domain({"noon/mAP": 0.5, "noon/rank-1": 0.612, "dusk/mAP": 0, "dusk/rank-1": 1})
    }
    out = io.StringIO()
    Console(file=out, width=100).print(result_table(rows, "step AP"))
    text = out.getvalue()
    for word in ("noon", "dusk", "50.0", "61.2", "0.0", "100.0"):
        assert word in text


def test_the_title_stays_on_one_line() -> None:
    title = "a title that names data, split, AP rule and seed, longer than the table is wide"
    out = io.StringIO()
    table = result_table({"model": {"noon": {"mAP": 0.5}}}, title)
    Console(file=out, width=40).print(table, soft_wrap=True)
    assert f"{title} (percent)\n" in out.getvalue()
