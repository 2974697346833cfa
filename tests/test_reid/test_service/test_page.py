"""The page in a browser, against the real application: a made gallery, and colours as features.

Whatever a test does, the browser's console stays clean, no rule of the content security policy is
broken, and no request leaves the page's origin.
"""

import base64
import csv
import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reid.gallery import Gallery
from reid.threshold import Threshold

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not there")

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
TOKEN = "a-token-for-these-tests"
THRESHOLD = 0.9
COLOURS = {1: (220, 30, 30), 2: (30, 60, 220), 3: (30, 190, 60), 4: (230, 200, 40)}
HOSTILE = {
    "pid": "<img src=x onerror=window.hacked=1>",
    "camera": 3,
    "time": 999,
    "gate": "<script>window.hacked=1</script>",
    "image": '"><svg onload=window.hacked=1>.jpg',
    "__proto__": "=1+1",
}


def person(pid: int, shade: int = 0) -> np.ndarray:
    """(64, 32, 3) uint8 RGB in an identity's colour, a little darker with the shade."""
    image = np.zeros((64, 32, 3), np.uint8)
    image[:] = np.maximum(np.array(COLOURS[pid]) - 6 * shade, 0)
    return image


def embed(images) -> np.ndarray:
    """Mean colours about grey: neighbours are images of a like colour."""
    return np.array([np.mean(image, axis=(0, 1)) / 255 - 0.45 for image in images], np.float32)


def encoded(image: np.ndarray, kind: str = ".png") -> bytes:
    import cv2

    return cv2.imencode(kind, image[..., ::-1])[1].tobytes()


def fill(path: Path) -> Gallery:
    """4 identities x 3 cameras x 2 times, each a little different, and one hostile record."""
    gallery = Gallery.create(path, 3, model="colours")
    images, records = [], []
    for pid in COLOURS:
        for camera in (1, 2, 3):
            for step in (0, 1):
                images.append(person(pid, camera + 3 * step))
                records.append(
                    {
                        "image": f"{pid}_{camera}_{step}.png",
                        "pid": pid,
                        "camera": camera,
                        "time": 100 * pid + 10 * camera + step,
                        "gate": "north" if step else "south",
                    }
                )
    images.append(np.full((64, 32, 3), (120, 20, 230), np.uint8))
    records.append(HOSTILE)
    gallery.add(embed(images), records, thumbnails=[encoded(image) for image in images])
    return gallery


class Server:
    """An application that answers on a free port of this machine, in a thread."""

    def __init__(self, path: Path, **settings) -> None:
        from reid.service import create_app
        from reid.service.serving import bind
        from reid.service.settings import Settings

        settings = Settings(
            name="colours",
            token=TOKEN,
            rate=0,
            upload_bytes=200_000,
            threshold=Threshold(THRESHOLD, far=0.01),
            **settings,
        )
        listening = bind("127.0.0.1", 0)
        config = uvicorn.Config(
            create_app(fill(path), embed, settings), log_config=None, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        while not self._server.started:
            assert self._thread.is_alive(), "the application did not start"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("open") / "gallery")
    yield running
    running.close()


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory) -> Iterator[Server]:
    """Reading needs the token, too."""
    running = Server(tmp_path_factory.mktemp("closed") / "gallery", read_needs_token=True)
    yield running
    running.close()


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


class Visit:
    """A window of its own, and what went wrong in it.

    ``expected`` is a pattern of console errors that a test provokes, such as a refused request.
    """

    def __init__(self, browser, address: str, fragment: str = "", **options) -> None:
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        self.address = address
        self.expected: str | None = None
        self.troubles: list[str] = []
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " (event) => console.error('CSP ' + event.violatedDirective + event.blockedURI))"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("request", self._see)
        self.page.goto(address + fragment)

    def _hear(self, message) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text} {message.location.get('url')}")

    def _see(self, request) -> None:
        if not request.url.startswith((self.address, f"blob:{self.address}")):
            self.troubles.append(f"asked {request.url}")

    def close(self) -> None:
        hacked = self.page.evaluate("window.hacked")
        self.context.close()
        assert hacked is None
        unexpected = [
            line
            for line in self.troubles
            if self.expected is None or not re.search(self.expected, line)
        ]
        assert not unexpected

    # -- what people do

    def choose(self, image: np.ndarray | bytes, name: str = "query.png") -> None:
        data = image if isinstance(image, bytes) else encoded(image)
        file = {"name": name, "mimeType": "image/png", "buffer": data}
        self.page.set_input_files("#file", file)

    def search(self, action) -> dict:
        """What the server answered to the search that an action causes."""
        with self.page.expect_response(lambda r: "/api/search/" in r.url and r.ok) as waiting:
            action()
        answer = waiting.value.json()
        shown = len(answer["hits"])
        self.page.wait_for_function(
            "n => document.querySelectorAll('#hits .hit:not(.skeleton)').length >= n", arg=shown
        )
        return answer

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """On the query image, from and to places in parts of its size."""
        area = self.page.locator("#stage").bounding_box()
        places = [
            (area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in (start, end)
        ]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=4)
        self.page.mouse.up()

    def ids(self) -> list[int]:
        cards = self.page.locator("#hits .hit:not(.skeleton)")
        return [int(value) for value in cards.evaluate_all("all => all.map(c => c.dataset.id)")]

    def pids(self) -> list[str]:
        return self.page.locator("#hits .fact.pid .value").all_text_contents()

    def cameras(self) -> set[str]:
        return set(self.page.locator("#hits .fact.camera .value").all_text_contents())

    def downloaded(self) -> list[dict[str, str]]:
        with self.page.expect_download() as waiting:
            self.page.click("#export")
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def visit(browser, server) -> Iterator[Visit]:
    window = Visit(browser, server.address)
    window.page.wait_for_selector("#samples .picture.loaded")
    yield window
    window.close()


@pytest.fixture
def found(visit) -> Visit:
    """A search for the first identity has been answered."""
    visit.search(lambda: visit.choose(person(1)))
    return visit


def chip(visit: Visit, camera: int):
    return visit.page.locator(f'.chip.camera[aria-label^="Camera {camera},"]')


# ---------------------------------------------------------------------------- who is looked for


def test_the_start_shows_rows_to_begin_with(visit):
    assert visit.page.text_content("#name") == "colours"
    assert "25 rows" in visit.page.text_content("#about")
    assert 4 <= visit.page.locator("#samples .picture.loaded").count() <= 16
    answer = visit.search(lambda: visit.page.locator("#samples .see").first.click())
    assert answer["query"]["id"] is not None
    assert answer["query"]["id"] not in visit.ids()


def test_an_uploaded_image_finds_its_like(found):
    assert found.pids()[:6] == ["1"] * 6
    assert found.page.locator("#hits .hit .rank").first.text_content() == "1"
    assert found.page.locator("#hits .hit .number").first.text_content() >= "0.990"
    assert "6 of 25 hits reach the threshold" in found.page.text_content("#status")
    found.page.wait_for_selector("#hits .picture.loaded")


def test_an_image_may_be_dropped_or_pasted(visit):
    make_event = """([kind, data]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const moved = new DataTransfer();
        moved.items.add(new File([bytes], "moved.png", { type: "image/png" }));
        const event = kind === "paste"
            ? new ClipboardEvent(kind, { clipboardData: moved, bubbles: true, cancelable: true })
            : new DragEvent(kind, { dataTransfer: moved, bubbles: true, cancelable: true });
        document.querySelector("h1").dispatchEvent(event);
    }"""
    for kind, pid in (("drop", 2), ("paste", 3)):
        data = base64.b64encode(encoded(person(pid))).decode()
        if kind == "drop":
            visit.page.evaluate(make_event, ["dragenter", data])
            assert visit.page.is_visible("#veil")
        visit.search(lambda k=kind, d=data: visit.page.evaluate(make_event, [k, d]))
        assert visit.pids()[:6] == [str(pid)] * 6
        assert visit.page.is_hidden("#veil")


def test_a_dragged_crop_is_what_is_searched_with(visit):
    both = np.concatenate([person(1), person(2)], axis=1)  # 64 x 64, red and blue
    whole = visit.search(lambda: visit.choose(both))
    assert whole["query"]["crop"] is None
    right = visit.search(lambda: visit.drag((0.55, 0.1), (0.95, 0.9)))
    x, y, width, height = right["query"]["crop"]
    assert abs(x - 35) <= 1 and abs(y - 6) <= 1 and abs(width - 26) <= 2 and abs(height - 51) <= 2
    assert visit.pids()[:6] == ["2"] * 6
    moved = visit.search(lambda: visit.drag((0.75, 0.5), (0.25, 0.5)))
    assert moved["query"]["crop"][2:] == [width, height] and moved["query"]["crop"][0] < 5
    assert visit.pids()[:6] == ["1"] * 6
    assert moved["query"]["sha256"] == whole["query"]["sha256"]
    cleared = visit.search(lambda: visit.page.click("#whole"))
    assert cleared["query"]["crop"] is None


def test_a_crop_has_handles_and_obeys_keys(visit):
    visit.search(lambda: visit.choose(np.concatenate([person(1), person(2)], axis=1)))
    visit.search(lambda: visit.drag((0.25, 0.25), (0.5, 0.5)))
    pulled = visit.search(lambda: visit.drag((0.5, 0.5), (0.75, 0.75)))  # the lower right handle
    assert pulled["query"]["crop"] == pytest.approx([16, 16, 32, 32], abs=1)
    visit.page.focus("#stage")
    nudged = visit.search(lambda: visit.page.keyboard.press("Alt+ArrowRight"))
    assert nudged["query"]["crop"][0] == pulled["query"]["crop"][0] + 1
    grown = visit.search(lambda: visit.page.keyboard.press("Shift+ArrowDown"))
    assert grown["query"]["crop"][3] > nudged["query"]["crop"][3]
    for _ in range(60):  # never out of the image
        visit.page.keyboard.press("ArrowDown")
    lowest = visit.search(lambda: visit.page.keyboard.press("Enter"))["query"]["crop"]
    assert lowest[1] + lowest[3] == 64
    assert visit.search(lambda: visit.page.keyboard.press("Delete"))["query"]["crop"] is None


def test_a_crop_in_the_enlarged_view(visit):
    visit.search(lambda: visit.choose(np.concatenate([person(1), person(2)], axis=1)))
    visit.page.click("#enlarge")
    assert visit.page.locator("#stage").bounding_box()["height"] > 400
    answer = visit.search(lambda: visit.drag((0.6, 0.1), (0.9, 0.9)))
    assert answer["query"]["crop"][0] == pytest.approx(38, abs=1)
    visit.page.get_by_role("button", name="Done").click()
    assert visit.page.locator("#stage-place #stage").count() == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a" + b"\0" * 100, "neither a JPEG, nor a PNG, nor a WebP"),
        (b"", "The image file is empty."),
        (encoded(person(1))[:20], "The PNG data is damaged or cut short."),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 200_000, "longer than 200,000 bytes"),
    ],
    ids=["another kind", "empty", "cut short", "too long"],
)
def test_a_file_of_a_wrong_kind_is_refused_before_it_travels(visit, data, said):
    asked = []
    visit.page.on("request", lambda request: asked.append(request.method))
    visit.choose(data, "holiday.png")
    visit.page.wait_for_selector("#trouble:not([hidden])")
    assert said in visit.page.text_content("#trouble-text")
    assert "POST" not in asked
    visit.search(lambda: visit.choose(person(1)))
    assert visit.page.is_hidden("#trouble")


def test_the_page_refuses_in_the_servers_words(visit):
    visit.expected = "status of 415"
    answer = visit.page.evaluate(
        """async () => {
            const form = new FormData();
            form.append("image", new Blob(["GIF89a no image"]), "image");
            return (await fetch("api/search/image", { method: "POST", body: form })).json();
        }"""
    )
    visit.choose(b"GIF89a no image")
    visit.page.wait_for_selector("#trouble:not([hidden])")
    assert visit.page.text_content("#trouble-text") == answer["error"]["message"]


# --------------------------------------------------------------------------------------- filters


def test_cameras_are_chosen_and_left_out(found):
    only = found.search(lambda: chip(found, 2).click())
    assert found.cameras() == {"2"} and only["total_allowed"] == 8
    without = found.search(lambda: chip(found, 2).click())
    assert found.cameras() == {"1", "3"} and without["total_allowed"] == 17
    assert chip(found, 2).get_attribute("aria-label") == "Camera 2, 8 rows: without these"
    removal = found.page.get_by_role("button", name="Remove the filter: not camera 2")
    assert found.search(removal.click)["total_allowed"] == 25
    assert found.page.is_hidden("#active")


def test_time_identity_and_any_field_compose(found):
    found.search(lambda: found.page.fill("[data-part=from]", "100"))
    found.search(lambda: found.page.fill("[data-part=until]", "299"))
    answer = found.search(lambda: found.page.fill("[data-part=pid]", "2, 3"))
    assert answer["total_allowed"] == 6 and set(found.pids()) == {"2"}
    found.page.click("[data-part=add-row]")
    found.page.locator("[data-part=rows] select").first.select_option("gate")
    row = found.page.locator("[data-part=rows] input")
    assert found.search(lambda: row.fill("north"))["total_allowed"] == 3
    answer = found.search(
        lambda: found.page.locator("[data-part=rows] select").nth(1).select_option("≠")
    )
    assert {hit["record"]["gate"] for hit in answer["hits"]} == {"south"}
    assert found.page.locator("#active .chip").count() == 4
    reset = found.page.locator("#active").get_by_role("button", name="Reset")
    assert found.search(reset.click)["total_allowed"] == 25
    assert found.page.input_value("[data-part=pid]") == ""


def test_nothing_passes_the_filters(found):
    with found.page.expect_response("**/api/search/image"):
        found.page.fill("[data-part=pid]", "77")
    found.page.get_by_text("No row passes the filters").wait_for()


def test_the_querys_own_camera_is_left_out(found):
    found.search(lambda: found.page.check("[data-part=other-cameras]"))  # it is not known yet
    answer = found.search(
        lambda: found.page.locator("[data-part=query-camera]").select_option(label="1")
    )
    assert found.cameras() == {"2", "3"} and answer["total_allowed"] == 17
    similar = found.page.locator("#hits .act.similar").first
    found.search(similar.click)  # of a row it is known
    own = found.page.locator("#row-facts dd").nth(1).text_content()
    assert own in ("2", "3") and found.cameras() == {"1", "2", "3"} - {own}


def test_groups_and_reranking(found):
    answer = found.search(lambda: found.page.check("[data-part=group]"))
    assert sorted(str(hit["pid"]) for hit in answer["hits"]) == sorted(
        ["1", "2", "3", "4", HOSTILE["pid"]]
    )
    found.search(lambda: found.page.uncheck("[data-part=group]"))
    answer = found.search(lambda: found.page.check("[data-part=rerank]"))
    assert all(hit["reranked"] is not None for hit in answer["hits"])
    assert found.ids()[:6] == [hit["id"] for hit in answer["hits"] if hit["score"] >= 0.9]


def test_more_hits_go_on_where_the_first_end(found):
    first = found.search(lambda: found.page.locator("[data-part=k]").select_option("20"))
    assert len(first["hits"]) == 20
    more = found.search(lambda: found.page.click("#more"))
    found.page.wait_for_selector("#hits [data-id] >> nth=24")
    assert len(more["hits"]) == 5 and more["hits"][0]["rank"] == 21
    assert sorted(found.ids()) == list(range(25))
    assert found.page.is_hidden("#more")


# ------------------------------------------------------------------------------------- threshold


def test_the_threshold_moves_the_divider_without_a_request(found):
    asked = []
    found.page.on("request", lambda request: asked.append(request.url))
    pale = found.page.locator("#hits .hit.pale")
    assert pale.count() == 19
    assert "probably nobody you asked for" in found.page.text_content(".divider")
    assert "1% false accepts" in found.page.text_content("#calibrated")
    before = found.page.evaluate(
        "[...document.querySelectorAll('#hits > li')].findIndex((li) => li.matches('.divider'))"
    )
    assert before == 6
    found.page.locator("#threshold").fill("0")
    assert 0 < pale.count() < 19
    found.page.fill("#threshold-number", "-1")
    assert pale.count() == 0 and found.page.locator(".divider").count() == 0
    found.page.fill("#threshold-number", "1.5")
    assert "Nobody in this gallery reaches the threshold" in found.page.text_content(".divider")
    assert pale.count() == 25
    found.page.click("#calibrated")
    assert pale.count() == 19
    assert not [url for url in asked if "/search/" in url]


# ----------------------------------------------------------------------------------------- marks


def test_marks_are_made_by_keys_kept_and_exported(found):
    found.page.keyboard.press("ArrowRight")  # from nowhere: to the first hit
    ids = found.ids()
    found.page.keyboard.press("s")
    found.page.keyboard.press("ArrowRight")
    found.page.keyboard.press("d")
    found.page.keyboard.press("ArrowRight")
    found.page.keyboard.press("s")
    found.page.keyboard.press("s")  # taken away again
    assert found.page.text_content("#count-same") == "1"
    assert found.page.text_content("#count-different") == "1"
    assert found.page.locator("#hits .is-same").get_attribute("data-id") == str(ids[0])
    rows = found.downloaded()
    assert [(row["hit_id"], row["mark"]) for row in rows] == [
        (str(ids[0]), "same"),
        (str(ids[1]), "different"),
    ]
    row = rows[0]
    assert row["query"].startswith("sha256:") and row["rank"] == "1" and row["pid"] == "1"
    assert row["model"] == "colours" and row["gallery"] == "colours"
    assert float(row["threshold"]) == THRESHOLD and float(row["score"]) > 0.99
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", row["marked_at"])
    # They come back with their query, after a reload too, and not with another one.
    found.page.reload()
    found.search(lambda: found.choose(person(1)))
    assert found.page.locator("#hits .is-same").count() == 1
    found.search(lambda: found.choose(person(2)))
    assert found.page.locator("#hits .is-same").count() == 0
    assert found.page.text_content("#count-same") == "0"
    found.page.click("#clear-marks")
    found.page.click("#confirm-yes")
    assert found.page.is_hidden("#marks")
    found.search(lambda: found.choose(person(1)))
    assert found.page.locator("#hits .is-same").count() == 0


def test_marks_of_another_crop_are_those_of_another_person(visit):
    visit.search(lambda: visit.choose(np.concatenate([person(1), person(2)], axis=1)))
    visit.search(lambda: visit.drag((0.05, 0.1), (0.45, 0.9)))
    visit.page.locator("#hits .act.same").first.click()
    visit.search(lambda: visit.drag((0.25, 0.5), (0.75, 0.5)))
    assert visit.page.locator("#hits .is-same").count() == 0
    row = visit.downloaded()[0]
    assert len(row["crop"].split()) == 4


def test_cells_of_the_csv_are_no_formulas(visit):
    cells = visit.page.evaluate(
        """async () => {
            const { cell } = await import("./static/marks.js");
            return ["=1+1", "+1", "-1", "@x", "\\tx", "a,b", 'say "x"', "a\\nb", -0.5, null, "x"]
                .map(cell);
        }"""
    )
    assert cells == [
        *("'=1+1", "'+1", "'-1", "'@x", "'\tx", '"a,b"', '"say ""x"""', '"a\nb"', "-0.5", "", "x")
    ]


# --------------------------------------------------------------------------------------- history


def test_similar_to_this_and_back_again(found):
    ids = found.ids()
    first = found.search(found.page.locator("#hits .act.similar").nth(7).click)
    assert first["query"]["id"] == ids[7] and ids[7] not in found.ids()
    assert found.page.url.endswith(f"#id={ids[7]}")
    assert found.page.locator("#trail li").count() == 2
    found.page.locator("#hits .see").nth(1).focus()
    second = found.ids()[1]
    found.search(lambda: found.page.keyboard.press("f"))
    assert found.page.locator("#trail li").count() == 3
    back = found.search(found.page.go_back)
    assert back["query"]["id"] == ids[7]
    again = found.search(lambda: found.page.locator("#trail li button").first.click())
    assert again["query"]["sha256"] and found.ids() == ids  # the image was kept in memory
    assert found.page.is_visible("#chosen")
    forward = found.search(lambda: found.page.evaluate("history.go(2)"))
    assert forward["query"]["id"] == second


def test_an_address_leads_to_a_row(browser, server):
    visit = Visit(browser, server.address, "#id=8")
    visit.page.wait_for_selector("#hits .hit:not(.skeleton)")
    assert visit.pids()[:5] == ["2"] * 5
    visit.close()
    visit = Visit(browser, server.address, "#id=4000")
    visit.expected = "status of 404"
    visit.page.wait_for_selector("#trouble:not([hidden])")
    assert "There is no row of this id." in visit.page.text_content("#trouble-text")
    visit.close()


# ------------------------------------------------------------------------------ keys and records


def test_everything_is_reached_by_the_keyboard(found):
    found.page.keyboard.press("?")
    assert found.page.is_visible("#help-dialog")
    found.page.keyboard.press("Escape")
    found.page.locator("#hits .see").first.focus()
    ids = found.ids()
    found.page.keyboard.press("ArrowDown")
    below = found.page.evaluate("Number(document.activeElement.closest('.hit').dataset.id)")
    places = found.page.evaluate(
        """(id) => [document.querySelector('#hits .hit'),
            document.querySelector(`#hits .hit[data-id="${id}"]`)]
            .map((card) => [card.offsetLeft, card.offsetTop])""",
        below,
    )
    assert places[0][0] == places[1][0] and places[0][1] < places[1][1]
    found.page.keyboard.press("Home")
    found.page.keyboard.press("Enter")
    assert found.page.is_visible("#viewer")
    found.page.keyboard.press("ArrowRight")
    found.page.keyboard.press("d")
    assert found.page.text_content("#viewer-title") == "Rank 2"
    assert found.page.get_attribute("#viewer-different", "aria-pressed") == "true"
    found.page.keyboard.press("Escape")
    focused = found.page.evaluate("document.activeElement.closest('.hit').dataset.id")
    assert focused == str(ids[1])
    assert found.page.locator("#hits .is-different").get_attribute("data-id") == str(ids[1])


def test_a_hostile_record_is_only_text(found):
    last = found.ids().index(24)
    card = found.page.locator("#hits .hit").nth(last)
    assert card.locator(".fact.pid .value").text_content() == HOSTILE["pid"]
    card.locator(".see").click()
    table = found.page.text_content("#viewer-record")
    for value in (HOSTILE["pid"], HOSTILE["gate"], "svg onload", "=1+1", "__proto__"):
        assert value in table
    assert found.page.locator("#viewer-record :is(img, script, svg)").count() == 0
    found.page.keyboard.press("s")
    found.page.keyboard.press("Escape")
    row = next(row for row in found.downloaded() if row["hit_id"] == "24")
    assert row["pid"] == HOSTILE["pid"]
    # A field of any name can be asked for, and the page's own objects stay as they are.
    found.page.click("[data-part=add-row]")
    found.page.locator("[data-part=rows] select").first.select_option("__proto__")
    row = found.page.locator("[data-part=rows] input")
    assert found.search(lambda: row.fill("=1+1"))["total_allowed"] == 1
    assert found.page.evaluate("({}).$in === undefined")
    found.search(found.page.locator("#hits .act.similar").first.click)
    assert HOSTILE["pid"] in found.page.text_content("#row-facts")


# ----------------------------------------------------------------------------- looks and devices


def test_a_phone_has_no_sideways_scroll_and_a_sheet_of_filters(browser, server):
    size = {"width": 360, "height": 740}
    visit = Visit(browser, server.address, viewport=size, has_touch=True, is_mobile=True)
    wide = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    visit.page.wait_for_selector("#samples .picture.loaded")
    assert visit.page.evaluate(wide) == 360
    visit.search(lambda: visit.choose(person(1)))
    assert visit.page.evaluate(wide) == 360
    assert visit.page.is_hidden("#filters")
    visit.page.tap("#open-filters")
    visit.page.wait_for_selector("#filters", state="visible")
    visit.search(chip(visit, 1).tap)
    assert visit.page.evaluate(wide) == 360
    visit.page.tap("#close-filters")
    visit.page.wait_for_selector("#filters", state="hidden")
    assert visit.page.text_content("#filter-count") == "1"
    visit.page.locator("#hits .see").first.tap()
    assert visit.page.evaluate(wide) == 360
    visit.close()


def test_a_finger_draws_a_crop(browser, server):
    size = {"width": 390, "height": 844}
    visit = Visit(browser, server.address, viewport=size, has_touch=True, is_mobile=True)
    visit.search(lambda: visit.choose(np.concatenate([person(1), person(2)], axis=1)))
    area = visit.page.locator("#stage").bounding_box()
    fingers = visit.context.new_cdp_session(visit.page)

    def touch(kind: str, *place: float) -> None:
        points = [
            {"x": area["x"] + x * area["width"], "y": area["y"] + y * area["height"]}
            for x, y in [place] * bool(place)
        ]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def draw() -> None:
        touch("touchStart", 0.55, 0.1)
        touch("touchMove", 0.7, 0.5)
        touch("touchMove", 0.95, 0.9)
        touch("touchEnd")

    answer = visit.search(draw)
    assert answer["query"]["crop"] == pytest.approx([35, 6, 26, 51], abs=2)
    assert visit.page.evaluate("scrollY") == 0  # the finger did not scroll the page
    visit.close()


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)" by WCAG 2."""
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_themes(browser, server, scheme):
    visit = Visit(browser, server.address, color_scheme=scheme)
    visit.search(lambda: visit.choose(person(1)))
    paper = luminance(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert paper < 0.05 if scheme == "dark" else paper > 0.8
    pairs = visit.page.evaluate(
        """() => {
            const ground = (element) => {
                for (let at = element; at; at = at.parentElement) {
                    const colour = getComputedStyle(at).backgroundColor;
                    if (!/, 0\\)$/.test(colour)) return colour;
                }
            };
            const all = ["h1", "#about", "#status", ".label", ".number", ".fact .value",
                "button.text", ".pale .number", ".divider strong", ".chip .count", "#measure",
                "button.small", "#calibrated", ".switch span"];
            return all.map((selector) => {
                const element = document.querySelector(selector);
                return [selector, getComputedStyle(element).color, ground(element)];
            });
        }"""
    )
    for selector, ink, ground in pairs:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (selector, ink, ground)
    visit.close()


def test_the_theme_can_be_chosen_and_is_kept(browser, server):
    visit = Visit(browser, server.address, color_scheme="light")
    dark = "getComputedStyle(document.body).backgroundColor"
    light_ground = visit.page.evaluate(dark)
    visit.page.click("#theme")
    assert visit.page.evaluate(dark) == light_ground
    visit.page.click("#theme")
    assert luminance(visit.page.evaluate(dark)) < 0.05
    visit.page.reload()
    visit.page.wait_for_selector("#samples .picture.loaded")
    assert luminance(visit.page.evaluate(dark)) < 0.05
    visit.close()


# ------------------------------------------------------------------------------------ the token


def test_the_token_is_asked_for_and_pictures_come_with_it(browser, closed_server):
    visit = Visit(browser, closed_server.address)
    visit.expected = "status of 401"
    page = visit.page
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token-value", "not-the-right-token")
    page.keyboard.press("Enter")
    page.get_by_text("The server did not accept the token").wait_for()
    page.fill("#token-value", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#samples .picture.loaded")
    visit.search(lambda: visit.choose(person(3)))
    page.wait_for_selector("#hits .picture.loaded")
    assert page.get_attribute("#hits img >> nth=0", "src").startswith("blob:")
    kept = page.evaluate("[sessionStorage.getItem('token'), JSON.stringify(localStorage)]")
    assert kept[0] == TOKEN and TOKEN not in kept[1]
    assert TOKEN not in page.url and visit.context.cookies() == []
    visit.close()


def test_the_token_may_come_in_the_address_and_leaves_it(browser, closed_server):
    visit = Visit(browser, closed_server.address, f"#token={TOKEN}&id=0")
    visit.page.wait_for_selector("#hits .picture.loaded")
    assert visit.page.url == closed_server.address + "#id=0"
    assert visit.page.evaluate("sessionStorage.getItem('token')") == TOKEN
    visit.close()


def test_nobody_gives_a_token(browser, closed_server):
    visit = Visit(browser, closed_server.address)
    visit.expected = "status of 401"
    visit.page.wait_for_selector("#token-dialog[open]")
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector("#trouble:not([hidden])")
    assert "token" in visit.page.text_content("#trouble-text")
    visit.page.click("#again")
    visit.page.wait_for_selector("#token-dialog[open]")
    visit.close()


# ------------------------------------------------------------------------- changing the gallery


def test_a_crop_is_added_and_removed_again(found):
    found.expected = "status of 401"
    page = found.page
    both = np.concatenate([np.full((64, 32, 3), 250, np.uint8), person(4, 9)], axis=1)
    found.search(lambda: found.choose(both))
    found.search(lambda: found.drag((0.5, 0.0), (1.0, 1.0)))
    page.click("#add")
    page.fill("#add-pid", "44")
    page.fill("#add-camera", "2")
    page.locator("#add-form .primary").click()
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token-value", TOKEN)
    answer = found.search(lambda: page.keyboard.press("Enter"))
    new = answer["hits"][0]
    assert new["pid"] == 44 and new["camera"] == 2 and new["score"] > 0.999
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", new["record"]["image"])
    assert "26 rows" in page.text_content("#about")
    # The same crop again is refused, and the form says why.
    found.expected = "status of (401|409)"
    page.click("#add")
    page.locator("#add-form .primary").click()
    page.wait_for_selector("#add-wrong:not(:empty)")
    assert "is in the gallery already" in page.text_content("#add-wrong")
    page.keyboard.press("Escape")
    page.locator(f'#hits [data-id="{new["id"]}"] .see').click()
    page.click("#viewer-remove")
    assert "no way to take it back" in page.text_content("#confirm-text")
    page.click("#confirm-no")
    assert page.locator(f'#hits [data-id="{new["id"]}"]').count() == 1
    page.click("#viewer-remove")
    page.click("#confirm-yes")
    page.get_by_text("25 rows").wait_for()
    assert page.locator(f'#hits [data-id="{new["id"]}"]').count() == 0


# -------------------------------------------------------------------------------------- troubles


def test_a_busy_server_is_asked_once_more(found):
    found.expected = "status of 503"
    busy = {
        "status": 503,
        "headers": {"Retry-After": "1", "Content-Type": "application/json"},
        "body": '{"error": {"code": "busy", "message": "Too busy. Try again later."}}',
    }
    times = []

    def refuse_once(route):
        times.append(1)
        if len(times) == 1:
            route.fulfill(**busy)
        else:
            route.continue_()

    found.page.route("**/api/search/image", refuse_once)
    answer = found.search(lambda: chip(found, 1).click())
    assert len(times) == 2 and answer["total_allowed"] == 8
    found.page.unroute("**/api/search/image")
    found.page.route("**/api/search/image", lambda route: route.fulfill(**busy))
    chip(found, 1).click()
    found.page.wait_for_selector("#trouble:not([hidden])")
    assert found.page.text_content("#trouble-text") == "Too busy. Try again later."
    found.page.unroute("**/api/search/image")
    found.search(lambda: found.page.click("#again"))
    assert found.page.is_hidden("#trouble")


def test_offline_is_said_and_searching_goes_on_afterwards(found):
    found.expected = "ERR_INTERNET_DISCONNECTED"
    found.context.set_offline(True)
    chip(found, 3).click()
    found.page.wait_for_selector("#trouble:not([hidden])")
    assert "offline" in found.page.text_content("#trouble-text")
    answer = found.search(lambda: found.context.set_offline(False))  # by itself
    assert answer["total_allowed"] == 9
    assert found.page.is_hidden("#trouble")


def test_a_slow_answer_of_an_older_search_is_not_shown(found):
    held = []

    def hold_the_first(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    found.page.route("**/api/search/image", hold_the_first)
    chip(found, 1).click()
    found.page.wait_for_selector("#hits .skeleton")
    found.search(lambda: chip(found, 1).click())  # now without camera 1
    held[0].continue_()
    found.page.wait_for_timeout(200)
    assert found.cameras() == {"2", "3"}
    assert found.page.is_hidden("#trouble")


# ----------------------------------------------------------------------------- the filters' words


def test_what_is_typed_becomes_conditions(visit):
    composed = visit.page.evaluate(
        """async () => {
            const where = await import("./static/where.js");
            const { compose, conditionsOf, meanings, valueLike } = where;
            const nothing = { cameras: new Map(), from: "", until: "", pid: "", rows: [] };
            const of = (some) => compose(conditionsOf({ ...nothing, ...some }));
            return [
                of({}),
                of({ cameras: new Map([[1, "in"], ["c2", "in"], [3, "out"]]) }),
                of({ from: "10", until: "20.5" }),
                of({ from: "2026-11-29", until: "2026-11-30" }),
                of({ pid: '7, x,, "8"' }),
                of({ rows: [{ field: "age", operator: ">", value: "3" },
                            { field: "age", operator: ">", value: "5" },
                            { field: "age", operator: "<", value: "9" },
                            { field: "gate", operator: "=", value: " " }] }),
                of({ pid: "1, 2", rows: [{ field: "pid", operator: "=", value: "2,3" }] }),
                of({ rows: [{ field: "a", operator: "≠", value: "x" },
                            { field: "a", operator: "≠", value: "y" }] }),
                meanings("true"),
                ["7", " x ", "7"].map((typed, i) => valueLike(typed, [[1], [1], ["a"]][i])),
            ];
        }"""
    )
    assert composed == [
        None,
        {"camera": {"$in": [1, "c2"], "$nin": [3]}},
        {"time": {"$gte": 10, "$lte": 20.5}},
        {"time": {"$gte": "2026-11-29", "$lte": "2026-11-30~"}},
        {"pid": {"$in": [7, "7", "x", "8"]}},
        {"age": {"$gt": 5, "$lt": 9}},
        {"pid": {"$in": [2, "2"]}},
        {"a": {"$nin": ["x", "y"]}},
        [True, "true"],
        [7, "x", "7"],
    ]
