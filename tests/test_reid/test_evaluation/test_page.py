from __future__ import annotations

from html.parser import HTMLParser

from reid.evaluation.page import Pictures, page, write_page
from reid.evaluation.seeds import aggregate


class Checked(HTMLParser):
    """Tags must nest; collects texts and the addresses of what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.sources += [str(v) for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_escaped_and_self_contained(make_result, tmp_path) -> None:
    evil = make_result(0, name="<i>evil</i>", warnings=["<script>alert(1)</script>"])
    rows = [evil, aggregate([make_result(0), make_result(1)])]
    key = ("<i>evil</i>", "noon")
    pictures = Pictures(
        worst={key: b"w"},
        random={key: b"r"},
        activations={key: b"a"},
        identities={key: b"i"},
        domains={"<i>evil</i>": b"d"},
    )
    path = tmp_path / "new" / "report.html"
    write_page(path, rows, "a <title>", pictures, note="cmd --x '&'")
    parser = Checked()
    text = path.read_text(encoding="utf-8")
    parser.feed(text)
    parser.close()
    assert not parser.open and "<script" not in text and "<i>evil" not in text
    for words in (
        *("a <title>", "cmd --x '&'", "<i>evil</i>", "warning: <script>alert(1)</script>"),
        *("Ranking (percent)", "From the source to the targets", "TAR at FAR 0.1%", "bin (mean"),
        *("re-ranking toy (k1 20)", "noon (source)", "toy <split>", "camera pairs", "rank-1"),
        *("The worst queries", "Random queries", "Where the network looks", "data/q/0.jpg"),
        *("Embeddings of a few identities", "the domains' embeddings", "1,234"),
    ):
        assert any(words in t for t in parser.texts), words
    assert "somebody" not in text  # the last parts of a path are enough
    # ROC of two domains, pairs of two domains and two rows, histograms, and what was given
    assert len(parser.sources) == 2 + 4 + 2 + 5
    assert all(source.startswith("data:image/") for source in parser.sources)
    assert text.count('<div class="wide"><img') == 3


def test_a_page_of_less(make_result) -> None:
    row = make_result(0, sources=[])
    for domain in row.domains.values():
        domain.refined, domain.camera_pairs, domain.verification, domain.examples = {}, [], {}, []
    row.domains["dusk"].problem = "dusk: <nobody>"
    text = page([row], "x")
    for words in ("camera pairs", "Verification", "<img", "targets", "worst", "ranking</th>"):
        assert words not in text, words
    assert "No numbers: dusk: &lt;nobody&gt;" in text
