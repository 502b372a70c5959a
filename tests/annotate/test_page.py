"""The page of `cvm-monai annotate` in headless Chromium: click, see, correct, train, export; nothing saved is lost."""

import base64
import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvm_monai.slides import write_pyramid

from .browser import CHROMIUM, Server, dice, draw_case, filled, places, reason_to_skip

pytestmark = [pytest.mark.ci, pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip())]

SIZE = 384
POOL = 16
MARKUP = "<img src=x onerror=document.title=1>"
CLASSES = ("--classes", json.dumps({"Tumor": "target", MARKUP: 2}))
POINTS, SAVED = ".shapes .point", ".shapes .point:not(.unsaved)"
PATIENT = 60_000
"""Milliseconds for the first answer, which computes features, on a machine that does other things too."""


@dataclass(frozen=True)
class Case:
    """An image of the server's folder and the mask of what was drawn."""

    name: str
    mask: np.ndarray


def drawn_cases(folder: Path, number: int) -> list[Case]:
    names = [f"case_{i:02}" for i in range(number)]
    return [Case(name, draw_case(folder / "images" / f"{name}.png", size=SIZE, seed=i)) for i, name in enumerate(names)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return drawn_cases(tmp_path_factory.mktemp("annotate") / "cases", POOL)


@pytest.fixture(scope="module")
def server(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests but those that kill it or train."""
    server = Server(tmp_path_factory.getbasetemp() / "annotate0" / "cases", *CLASSES)
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def pool(cases: list[Case]) -> Iterator[Case]:
    """Give each test images that no other has clicked on; the first two stay untouched."""
    return itertools.islice(cases, 2, None)


@pytest.fixture
def case(pool: Iterator[Case]) -> Case:
    return next(pool)


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    yield from opened(browser, server)


def opened(browser: Any, server: Server) -> Iterator[Any]:
    """Open a window on the gallery; a script error or a request to another server fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(20_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda request: None if is_own(request.url, server) else faults.append(request.url))
    page.goto(server.address)
    page.wait_for_selector(".card")
    yield page
    context.close()
    assert faults == []


def is_own(url: str, server: Server) -> bool:
    return url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))


def open_image(page: Any, name: str) -> None:
    page.click(f".card:has-text('{name}')")
    page.wait_for_selector(".shapes > g[transform^=matrix]", state="attached")
    page.wait_for_selector(".answer:not(.computing)", timeout=PATIENT)
    page.wait_for_timeout(600)  # the viewer has come to rest


def screen(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a level-0 place of the image is on the screen."""
    place = page.evaluate(
        """([x, y]) => { const g = document.querySelector('.shapes > g'); const p = new DOMPoint(x, y)
            .matrixTransform(g.getScreenCTM()); return [p.x, p.y]; }""",
        [x, y],
    )
    return place[0], place[1]


def wait_for_count(page: Any, selector: str, count: int) -> None:
    from playwright.sync_api import expect  # unlike `wait_for_function` it needs no eval, which the page forbids

    expect(page.locator(selector)).to_have_count(count, timeout=20_000)


def click(page: Any, key: str, place: tuple[float, float]) -> None:
    page.keyboard.press(key)
    count = page.locator(POINTS).count()
    page.mouse.click(*screen(page, *place))
    wait_for_count(page, SAVED, count + 1)


def click_three_and_three(page: Any, mask: np.ndarray, *, background: str = "3") -> None:
    for inside, outside in zip(places(mask, 3), places(~mask, 3), strict=True):
        click(page, "1", inside)
        click(page, background, outside)
    wait_for_answer(page)


def wait_for_answer(page: Any) -> None:
    page.wait_for_selector(".outline .edge", state="attached", timeout=PATIENT)
    page.wait_for_selector(".answer:not(.computing)", timeout=PATIENT)


def outline(page: Any) -> str:
    return str(page.get_attribute(".outline .edge", "d"))


def stored_points(server: Server, name: str) -> list[tuple[float, float, str]]:
    """The points in the folder's own GeoJSON file."""
    file = server.folder / "points" / f"{name}.geojson"
    found = json.loads(file.read_text())["features"] if file.exists() else []
    points = []
    for feature in found:
        geometry, label = feature["geometry"], feature["properties"]["classification"]["name"]
        many = geometry["coordinates"] if geometry["type"] == "MultiPoint" else [geometry["coordinates"]]
        points += [(x, y, label) for x, y in many if geometry["type"].endswith("Point")]
    return points


class TestClicking:
    def test_the_gallery_shows_each_image_with_its_state_and_filters_them(self, page: Any, cases: list[Case]) -> None:
        assert page.locator(".card .name").all_text_contents() == [case.name for case in cases]
        untouched = page.locator(".card[data-state=untouched]").count()
        assert untouched >= 2
        assert page.locator(".chip.untouched .count").inner_text() == str(untouched)
        page.locator(".card img").first.evaluate("image => image.decode()")
        page.click(".chip.checked")
        assert page.locator(".card").count() == 0
        page.click(".chip.all")
        page.fill("input[type=search]", "E_01")
        assert page.locator(".card .name").all_text_contents() == ["case_01"]

    def test_three_and_three_clicks_give_an_outline_that_fits(self, page: Any, server: Server, case: Case) -> None:
        open_image(page, case.name)
        click_three_and_three(page, case.mask)
        assert dice(filled(outline(page), SIZE), case.mask) >= 0.8
        assert len(stored_points(server, case.name)) == 6
        assert page.locator(".saved").inner_text() == "Saved"
        assert page.locator(f".slip:has-text('{case.name}')").get_attribute("data-state") == "clicked"
        times = page.evaluate("performance.getEntriesByName('click to outline').map(one => one.duration)")
        print("milliseconds from click to outline:", [round(time) for time in times])
        assert len(times) >= 1

    def test_a_point_is_on_the_disk_where_it_was_clicked(self, page: Any, server: Server, case: Case) -> None:
        open_image(page, case.name)
        click(page, "1", (100.5, 200.5))
        ((x, y, label),) = stored_points(server, case.name)
        assert abs(x - 100.5) < 1
        assert abs(y - 200.5) < 1
        assert label == "Tumor"

    def test_undo_redo_drag_and_delete(self, page: Any, server: Server, case: Case) -> None:
        open_image(page, case.name)
        click(page, "1", (100, 200))
        click(page, "3", (300, 90))
        page.keyboard.press("z")
        wait_for_count(page, POINTS, 1)
        assert len(stored_points(server, case.name)) == 1
        page.keyboard.press("Z")
        wait_for_count(page, POINTS, 2)
        page.mouse.move(*screen(page, 100, 200))
        page.mouse.down()
        page.mouse.move(*screen(page, 120, 220), steps=4)
        page.mouse.move(*screen(page, 140, 250), steps=4)
        page.mouse.up()
        page.wait_for_selector(".saved[data-state=saved]")
        x, y, _ = next(point for point in stored_points(server, case.name) if point[2] == "Tumor")
        assert abs(x - 140) < 2
        assert abs(y - 250) < 2
        page.keyboard.press("Delete")
        wait_for_count(page, POINTS, 1)
        page.wait_for_selector(".saved[data-state=saved]")
        assert [point[2] for point in stored_points(server, case.name)] == ["background"]

    def test_threshold_heat_and_space_need_no_server(self, page: Any, case: Case) -> None:
        open_image(page, case.name)
        click_three_and_three(page, case.mask)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        areas = []
        for threshold in ("0.1", "0.5", "0.9"):
            page.locator("input[aria-label=Threshold]").fill(threshold)
            areas.append(filled(outline(page), SIZE).sum())
        assert areas[0] > areas[1] > areas[2] > 0
        page.keyboard.press("h")
        assert page.locator("canvas.heat").is_visible()
        page.keyboard.press(" ")
        assert not page.locator("canvas.heat").is_visible()
        assert not page.locator(POINTS).first.is_visible()
        page.keyboard.press(" ")
        assert page.locator("canvas.heat").is_visible()
        assert asked == []

    def test_take_turns_the_outline_into_regions(self, page: Any, server: Server, case: Case) -> None:
        open_image(page, case.name)
        click_three_and_three(page, case.mask)
        page.keyboard.press("t")
        page.wait_for_selector(".regions .region", state="attached")
        taken = np.zeros((SIZE, SIZE), bool)
        for region in page.locator(".regions .region").all():
            taken |= filled(region.get_attribute("d"), SIZE)
        assert dice(taken, case.mask) >= 0.8
        features = json.loads((server.folder / "points" / f"{case.name}.geojson").read_text())["features"]
        assert any("Polygon" in feature["geometry"]["type"] for feature in features)

    def test_a_class_named_like_markup_stays_text(self, page: Any, case: Case) -> None:
        open_image(page, case.name)
        assert page.locator(".class .name").all_inner_texts() == ["Tumor", MARKUP, "background"]
        assert page.locator(".side img").count() == 0
        click(page, "2", (50, 50))
        assert page.locator(".marks .name").all_inner_texts() == [MARKUP]
        assert page.title().startswith(case.name)

    def test_the_keyboard_alone_places_a_point(self, page: Any, server: Server, case: Case) -> None:
        open_image(page, case.name)
        page.locator(".viewer").focus()
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        page.wait_for_selector(SAVED, state="attached")
        ((x, y, label),) = stored_points(server, case.name)
        assert abs(x - SIZE / 2) < 2
        assert abs(y - SIZE / 2) < 2
        assert label == "background"

    def test_n_and_p_go_through_the_images_and_the_question_mark_opens_the_help(self, page: Any) -> None:
        open_image(page, "case_00")
        page.keyboard.press("n")
        page.wait_for_selector(".place strong:has-text('case_01')")
        page.keyboard.press("p")
        page.wait_for_selector(".place strong:has-text('case_00')")
        page.keyboard.press("?")
        assert page.locator("dialog.help").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("dialog.help").is_visible()


class TestLargeImages:
    SIDE = 40_000

    @pytest.fixture(scope="class")
    def slides(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """A slide of 40,000 px with drawn tissue."""
        folder = tmp_path_factory.mktemp("slides") / "images"
        tissue = draw_case(folder / "tissue.png", size=1000)
        side = self.SIDE // 1000
        assert tissue.any()
        picture = np.asarray(Image.open(folder / "tissue.png"))
        (folder / "tissue.png").unlink()
        strips = (np.repeat(np.repeat(rows, side, 0), side, 1) for rows in np.array_split(picture, 100))
        write_pyramid(folder / "slide.tif", (self.SIDE, self.SIDE, 3), strips, mpp=0.25, ome=False, compression="jpeg")
        server = Server(folder.parent)
        server.start()
        yield server
        server.end()

    def test_a_slide_of_40000_px_is_shown_by_a_few_tiles_and_by_its_finest_where_it_is_zoomed(
        self, browser: Any, slides: Server
    ) -> None:
        for page in opened(browser, slides):
            asked = tiles_asked_for(page)
            open_image(page, "slide")
            finest = (self.SIDE - 1).bit_length()
            levels = {int(url.rsplit("/", 2)[1]) for url in asked}
            assert 1 <= len(asked) < 60
            assert max(levels) < finest
            assert pixels(page)[..., 3].max() == 255
            for _ in range(14):
                page.keyboard.press("+")
            page.wait_for_timeout(2500)
            levels = {int(url.rsplit("/", 2)[1]) for url in asked}
            assert max(levels) == finest
            assert len(asked) < 400
            assert page.locator(".scalebar").inner_text().endswith("µm")

    def test_no_seam_is_seen_between_tiles_at_any_zoom(self, browser: Any, tmp_path: Path) -> None:
        Image.new("RGB", (1300, 900), (200, 160, 190)).save(tmp_path / "one_colour.png")
        server = Server(tmp_path)
        server.start()
        try:
            for page in opened(browser, server):
                open_image(page, "one_colour")
                for _ in range(3):
                    page.keyboard.press("+")
                    page.wait_for_timeout(900)
                    inside = pixels(page)[60:-60, 60:-60]
                    assert inside[..., 3].min() == 255
                    assert np.abs(inside[..., :3].astype(int) - (200, 160, 190)).max() <= 3
        finally:
            server.end()


def tiles_asked_for(page: Any) -> list[str]:
    """The addresses of tiles, added to as they are asked for."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if "/tiles/" in request.url else None)
    return found


def pixels(page: Any) -> np.ndarray:
    """What the viewer has drawn, (h, w, 4)."""
    size, values = page.evaluate(
        """() => { const canvas = document.querySelector('.osd canvas');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let text = '';
            for (let i = 0; i < data.length; i += 4096) text += String.fromCharCode(...data.subarray(i, i + 4096));
            return [[canvas.height, canvas.width], btoa(text)]; }"""
    )
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(*size, 4)


class TestNothingIsLost:
    def test_a_reload_keeps_image_points_and_outline(self, page: Any, case: Case) -> None:
        open_image(page, case.name)
        click_three_and_three(page, case.mask)
        before = outline(page)
        page.reload()
        wait_for_count(page, SAVED, 6)
        wait_for_answer(page)
        assert dice(filled(outline(page), SIZE), filled(before, SIZE)) > 0.98

    def test_a_second_window_follows(self, page: Any, case: Case) -> None:
        open_image(page, case.name)
        second = page.context.new_page()
        second.goto(page.url)
        second.wait_for_selector(f".place strong:has-text('{case.name}')")
        third = page.context.new_page()
        third.goto(page.url.partition("#")[0])
        third.wait_for_selector(f".card[data-state=untouched]:has-text('{case.name}')")
        click(page, "1", (120, 130))
        wait_for_count(second, SAVED, 1)
        third.wait_for_selector(f".card[data-state=clicked]:has-text('{case.name}')")
        second.close()
        third.close()

    def test_a_killed_server_that_is_started_again_has_all_that_was_shown_as_saved(
        self, browser: Any, tmp_path: Path
    ) -> None:
        drawn_cases(tmp_path, 2)
        server = Server(tmp_path, *CLASSES)
        server.start()
        try:
            for page in opened(browser, server):
                open_image(page, "case_01")
                click(page, "1", (100, 200))
                click(page, "3", (300, 90))
                server.kill()
                page.wait_for_selector(".banner:has-text('Connection lost, retrying; your last saved click is safe')")
                page.mouse.click(*screen(page, 200, 250))
                page.wait_for_selector(".shapes .point.unsaved", state="attached")
                assert page.locator(".saved").inner_text() == "1 not saved"
                assert len(stored_points(server, "case_01")) == 2
                page.keyboard.press("g")  # what is not saved yet is kept when another image is opened
                page.wait_for_selector(".banner:has-text('One change is not saved yet')")
                server.start()
                page.wait_for_selector(".banner", state="hidden", timeout=PATIENT)
                open_image(page, "case_01")
                wait_for_count(page, SAVED, 3)
                assert len(stored_points(server, "case_01")) == 3
        finally:
            server.end()


class TestTraining:
    def test_three_epochs_then_prediction_and_export(self, browser: Any, tmp_path: Path) -> None:
        cases = drawn_cases(tmp_path / "cases", 5)
        server = Server(tmp_path / "cases")
        server.start()
        try:
            for page in opened(browser, server):
                for case in cases[:4]:
                    open_image(page, case.name)
                    click_three_and_three(page, case.mask, background="2")
                    page.keyboard.press("g")
                    page.wait_for_selector(".card")
                train_three_epochs(page)
                page.click(".card:has-text('case_04')")
                said = page.locator(".training .start .note").inner_text()
                assert said.startswith("No test yet: from 8 annotated images on (now 4)")
                assert page.locator("button:has-text('Register this network')").is_disabled()
                page.click(".toggle button[data-value='network']")
                page.wait_for_selector(".answer:has-text('target:')", timeout=PATIENT)
                with zipfile.ZipFile(download(page, tmp_path)) as archive:
                    files = {Path(name).stem: json.loads(archive.read(name)) for name in archive.namelist()}
                assert len(files["case_00"]["features"]) >= 1
        finally:
            server.end()


def train_three_epochs(page: Any) -> None:
    page.click(".train")
    page.fill("input[aria-label=Epochs]", "3")
    page.click(".training .primary")
    page.wait_for_selector(".progress.finished, .progress.failed", timeout=600_000)
    assert page.locator(".progress").inner_text().splitlines()[0].startswith("Finished"), page.inner_text(".progress")
    assert page.locator(".progress .facts").inner_text().startswith("Epoch 3 of 3")
    assert page.locator(".chart .curve").count() >= 1
    page.keyboard.press("Escape")


def download(page: Any, folder: Path) -> Path:
    """Export the annotations of all images as GeoJSON."""
    page.click(".top button:has-text('Export')")
    with page.expect_download() as caught:
        page.click("dialog[open] button[type=submit]")
    target = folder / caught.value.suggested_filename
    caught.value.save_as(target)
    return target
