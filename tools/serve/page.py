"""Uses the page of `headstart serve` in a browser, as people do: Chromium, wide and narrow, light and dark.

    python tools/serve/page.py target/debug/headstart [--chromium /usr/bin/chromium] [--pictures DIR]

Needs playwright (PyPI) and Debian's chromium. With --pictures it writes screenshots. With --latency every
answer takes that many milliseconds more, which shows where a check does not wait for what it needs.
"""

import argparse
import atexit
import json
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zlib

from playwright.sync_api import expect, sync_playwright

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


def png(side, colour):
    """A picture with a disc of that colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def pixel(x, y):
        inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 3) ** 2
        return bytes(colour) if inside else bytes((180 + 60 * y // side, 200, 230))

    rows = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(side)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Place:
    """A server and what is asked of it."""

    def __init__(self, binary, folder, latency):
        self.folder, self.latency = folder, latency
        self.binary, self.runs = binary, folder / "runs"
        self.runs.mkdir()
        for i in range(16):
            image = folder / "data" / ("warm", "cold")[i % 2] / f"{i:02}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            # One that is red is among the blue ones.
            warm = i % 2 == 0 or i == 7
            image.write_bytes(png(64, (200 - 6 * i, 40, 40) if warm else (30, 60, 150 + 6 * i)))
        command = [binary, "serve", "small=resnet20", "--port", "0", "--runs", str(self.runs)]
        command += ["--photos", str(folder / "photos"), "--data", str(folder / "data"), "--no-cache"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.server.stdout.readline()
        assert line.startswith("http://"), line
        self.url = line.split(": small")[0]
        self.files, self.begun = [], []
        for name, colour in (("red disc.png", (200, 40, 40)), ("<b>green.png", (30, 150, 60))):
            path = folder / name
            path.write_bytes(png(96, colour))
            self.files.append(path)

    def predict(self, path):
        request = urllib.request.Request(
            self.url + "/predict", path.read_bytes(), {"Content-Type": "image/png"}
        )
        return json.load(urllib.request.urlopen(request))["predictions"][0]

    def train(self, name, epochs):
        """Fine-tunes on some of the sample, in a process of its own."""
        line = f"{self.binary} train --limit 400 --epochs 1 --fine-tune-epochs {epochs} --no-cache --out"
        return subprocess.Popen([*line.split(), str(self.runs / name)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        self.server.send_signal(signal.SIGTERM)
        return self.server.wait(30)


class Tab:
    """A tab that notes what should not happen."""

    def __init__(self, browser, place, width, scheme):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, permissions=["camera"], base_url=place.url
        )
        self.page = self.context.new_page()
        if place.latency:
            session = self.context.new_cdp_session(self.page)
            session.send("Network.enable")
            slow = {"offline": False, "latency": place.latency, "downloadThroughput": -1, "uploadThroughput": -1}
            session.send("Network.emulateNetworkConditions", slow)
        self.bad = []
        # A refusal that a check wants is noted by the browser, too, and one that the page asks again after.
        noted = ("error", "warning")
        self.page.on("console", lambda m: self.bad.append(m.text) if m.type in noted and not any(c in m.text for c in ("422", "503")) else None)
        self.page.on("pageerror", lambda e: self.bad.append(str(e)))
        own = (place.url, "blob:", "data:")
        self.page.on("request", lambda r: None if r.url.startswith(own) else self.bad.append(r.url))

    def close(self):
        self.context.close()
        assert not self.bad, self.bad

    def fits(self):
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{wide} pixels too wide"


def percent(p):
    return f"{round(100 * p)}%" if p >= 0.9995 or p < 0.0005 else f"{100 * p:.1f}%"


def check_try(tab, place):
    page = tab.page
    page.goto("/")
    expect(page.locator("#about")).to_contain_text("airplane")
    page.locator("#files").set_input_files(place.files)
    cards = page.locator(".card")
    expect(cards).to_have_count(2)
    for file in place.files:
        answer = place.predict(file)
        card = page.locator(".card", has=page.get_by_alt_text(file.name))
        expect(card.locator("h2")).to_have_text(answer["class"])
        expect(card.locator(".photo figcaption")).to_have_text(file.name)
        bars = card.locator(".bars button")
        expect(bars).to_have_count(5)
        for bar, choice in zip(bars.all(), answer["top"]):
            expect(bar).to_contain_text(choice["class"])
            expect(bar).to_contain_text(percent(choice["probability"]))
        near = card.locator(".near figure")
        expect(near).to_have_count(6, timeout=30_000)
        if "red" in file.name:
            expect(near.first.locator("b")).to_have_text("warm")
        expect(near.first.locator("img")).to_have_js_property("naturalWidth", 160)
        # Where the class is seen: by the keyboard alone, and away again.
        plain = card.locator(".photo img").get_attribute("src")
        bars.first.focus()
        page.keyboard.press("Enter")
        expect(card.locator(".photo figcaption")).to_contain_text("What speaks for " + answer["class"])
        expect(bars.first).to_have_attribute("aria-pressed", "true")
        assert card.locator(".photo img").get_attribute("src") != plain
        page.keyboard.press("Enter")
        expect(card.locator(".photo figcaption")).to_have_text(file.name)
        assert card.locator(".photo img").get_attribute("src") == plain
    tab.fits()
    # None is that probable.
    page.locator("#threshold").fill("100")
    expect(cards.first.locator("h2")).to_have_text("unknown")
    page.locator("#threshold").fill("0")
    expect(cards.first.locator("h2")).to_have_text(place.predict(place.files[1])["class"])
    page.get_by_role("button", name="Clear").click()
    expect(cards).to_have_count(0)


GIVE = """([kind, name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
  document.body.dispatchEvent(event);
}"""


def check_drop_paste_and_camera(tab, place):
    page = tab.page
    page.goto("/")
    expect(page.locator("#about")).to_contain_text("airplane")
    answer = place.predict(place.files[0])
    for i, kind in enumerate(("drop", "paste")):
        page.evaluate(GIVE, [kind, f"{kind}.png", list(place.files[0].read_bytes())])
        expect(page.locator(".card")).to_have_count(i + 1)
        expect(page.locator(".card").first.locator("h2")).to_have_text(answer["class"])
    page.evaluate(GIVE, ["drop", "no image.png", [1, 2, 3]])
    expect(page.locator(".card.failed")).to_contain_text("expected an image that is read")
    page.get_by_role("button", name="Use the camera").click()
    video = page.locator("#video")
    expect(video).to_be_visible()
    expect(video).to_have_js_property("readyState", 4)
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator(".card")).to_have_count(4)
    expect(page.locator(".card").first.locator(".bars button")).to_have_count(5)
    page.get_by_role("button", name="Use the camera").click()
    expect(video).to_be_hidden()
    tab.fits()


def check_names(tab, place):
    """Every control and picture has a name for a screen reader, and everything can be reached by Tab."""
    page = tab.page
    page.goto("/")
    page.locator("#files").set_input_files(place.files[0])
    expect(page.locator(".bars button")).to_have_count(5)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, video, img, a")]
        .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.alt || e.textContent.trim()))
        .map((e) => e.outerHTML)"""
    )
    assert not nameless, nameless
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"choose", "camera", "threshold", "clear"} <= reached, reached


def check_watch(tab, place):
    """A training of another process, from its first epoch to its end; then one that was stopped, here resumed and stopped."""
    page = tab.page
    name = f"run {page.viewport_size['width']} {page.evaluate('matchMedia(`(prefers-color-scheme: dark)`).matches')}"
    process = place.train(name, 5)
    page.goto("/watch")
    page.get_by_role("button", name=name, exact=True).click(timeout=30_000)
    expect(page.locator("#name")).to_have_text(name)
    tiles = page.locator("#tiles")
    expect(tiles).to_contain_text("running", timeout=30_000)
    expect(tiles).to_contain_text("of 6", timeout=60_000)
    expect(page.locator("#charts svg")).to_have_count(2, timeout=60_000)
    expect(tiles).to_contain_text("until this phase ends", timeout=60_000)
    expect(tiles).to_contain_text("images a second")
    expect(page.locator("#stop")).to_be_visible()
    expect(tiles).to_contain_text("6 of 6", timeout=180_000)
    expect(tiles).to_contain_text("finished", timeout=60_000)
    assert process.wait(60) == 0
    expect(page.locator("#matrix tbody tr")).to_have_count(10)
    images = page.locator("#gallery figure")
    expect(images.first.locator("img")).to_have_js_property("complete", True)
    expect(images.first.locator("b")).to_have_count(2)
    report = page.locator("#report")
    expect(report).to_be_visible()
    assert "<html" in tab.context.request.get(page.evaluate("document.getElementById('report').href")).text()
    tab.fits()
    # One of another process is stopped from here, goes on here, and stops again.
    other = name + " long"
    process = place.train(other, 500)
    page.get_by_role("button", name=other, exact=True).click(timeout=30_000)
    expect(page.locator("#name")).to_have_text(other)
    expect(page.locator("#charts svg")).to_have_count(2, timeout=60_000)
    page.get_by_role("button", name="Stop and save").click()
    assert process.wait(60) == 130
    expect(tiles).to_contain_text("stopped", timeout=30_000)
    page.get_by_role("button", name="Resume").click()
    expect(tiles).to_contain_text("running", timeout=30_000)
    page.get_by_role("button", name="Stop and save").click(timeout=30_000)
    expect(tiles).to_contain_text("stopped", timeout=60_000)
    # Side by side.
    for run in (name, other):
        page.get_by_label(f"{run} side by side").check()
    table = page.locator("#differences")
    expect(table).to_contain_text("fine-tune-epochs")
    expect(table.locator("thead th")).to_have_count(3)
    tab.fits()


def accuracy(row):
    """Of a row of the table of fits, as a number."""
    return float(row.locator("td").nth(2).text_content().split("%")[0])


def check_look(tab, place):
    """A wrong label is suspected, moved to its class, and the head fits better; then all is taken back."""
    page = tab.page
    page.goto("/look")
    expect(page.locator("#about")).to_contain_text("16 images of 2 classes", timeout=30_000)
    expect(page.locator("#gallery figure")).to_have_count(16)
    expect(page.locator("#gallery img").first).to_have_js_property("naturalWidth", 160)
    page.locator("#class").select_option(label="cold (8)")
    expect(page.locator("#gallery figure")).to_have_count(8)
    page.locator("#class").select_option("")
    rows = page.locator("#fits tr")
    before = rows.count()
    page.wait_for_timeout(500)
    page.locator("#fit").click()
    expect(rows).to_have_count(before + 1, timeout=60_000)
    page.locator("#kind").select_option("suspected")
    suspect = page.locator("#gallery figure", has=page.get_by_alt_text("cold/07.png"))
    expect(suspect).to_contain_text("perhaps warm")
    suspect.get_by_role("button", name="Move cold/07.png to warm").click()
    expect(suspect.locator("b")).to_have_text("warm")
    expect(page.locator("#about")).to_contain_text("1 correction.")
    assert (place.folder / "data" / "corrections.csv").read_text() == "path,class\ncold/07.png,warm\n"
    page.locator("#fit").click()
    expect(rows).to_have_count(before + 2, timeout=60_000)
    assert accuracy(rows.nth(before + 1)) > accuracy(rows.nth(before))
    tab.fits()
    page.locator("#kind").select_option("corrected")
    page.get_by_role("button", name="Undo for cold/07.png").click()
    expect(page.locator("#gallery figure b")).to_have_text("cold")
    expect(page.locator("#about")).not_to_contain_text("correction")
    assert not (place.folder / "data" / "corrections.csv").exists()


def check_left_out(tab, place):
    """A folder that is no class and a file that is no image are named, and stay named."""
    page = tab.page
    mixed = place.folder / "mixed"
    for name in ("Nr.", "tepid"):
        (mixed / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(place.folder / "data/warm/00.png", mixed / name / "1.png")
    (mixed / "tepid/broken.png").write_bytes(b"no image")
    name = f"mixed-{len(place.begun)}"
    place.begun.append(name)
    page.goto("/begin")
    page.locator("#name").fill(name)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#class")).to_be_focused()
    page.locator("#folder").set_input_files(mixed)
    expect(page.locator("#sent")).to_contain_text("1 photo sent.", timeout=30_000)
    expect(page.locator("#refused")).to_contain_text("1 folder left out, 1 file not taken")
    for part in ("Nr.", "broken.png"):
        expect(page.locator("#refused li", has_text=part)).to_have_count(1)
    page.wait_for_timeout(1000)
    expect(page.locator("#refused")).to_be_visible()
    tab.fits()


def begin(tab, place):
    """A data set of a folder and of the camera: its name, and how many photos the camera took."""
    page = tab.page
    name = f"set-{page.viewport_size['width']}-{len(place.begun)}"
    place.begun.append(name)
    page.goto("/begin")
    page.locator("#name").fill(name)
    page.get_by_role("button", name="Make it").click()
    # Playwright gives files to an input that nobody sees yet.
    expect(page.locator("#class")).to_be_focused()
    page.locator("#folder").set_input_files(place.folder / "data")
    expect(page.locator("#classes .class")).to_have_count(2, timeout=30_000)
    expect(page.get_by_label("warm", exact=True)).to_contain_text("8 photos", timeout=30_000)
    expect(page.get_by_label("cold", exact=True)).to_contain_text("8 photos", timeout=30_000)
    expect(page.locator("#classes .class img")).to_have_count(16, timeout=30_000)
    page.locator("#class").fill("camera")
    page.get_by_role("button", name="Add it").click()
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#video")).to_have_js_property("readyState", 4)
    hold = page.get_by_role("button", name="Hold for photos of camera")
    hold.focus()
    page.keyboard.down("Space")
    camera = page.get_by_label("camera", exact=True)
    expect(camera).to_contain_text(re.compile(r"([89]|\d\d) photos"))
    page.keyboard.up("Space")
    page.get_by_role("button", name="Use the camera").click()
    expect(hold).to_be_hidden()
    # More may have been on their way.
    taken, before = photos(place, name, "camera"), -1
    while taken != before:
        page.wait_for_timeout(1000)
        taken, before = photos(place, name, "camera"), taken
    expect(camera).to_contain_text(f"{taken} photos")
    return name, taken


def photos(place, name, label):
    return len(list((place.folder / "photos" / name / label).iterdir()))


def check_begin(tab, place):
    """From an empty page to an exported ONNX, with a folder and the camera; then the model is tried."""
    page = tab.page
    name, taken = begin(tab, place)
    # A photo goes, and a class that is not wanted.
    page.get_by_label("warm", exact=True).locator("figure button").first.click()
    expect(page.get_by_label("warm", exact=True)).to_contain_text("7 photos")
    page.locator("#class").fill("no <b>class")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator("#failed")).to_contain_text("class name")
    expect(page.locator("#failed")).to_be_in_viewport()
    # What is no image there, put by hand, takes nothing else away.
    (place.folder / "photos" / name / "camera" / "broken.png").write_bytes(b"no image")
    page.reload()
    expect(page.locator("#classes .class")).to_have_count(3)
    expect(page.get_by_label("camera", exact=True)).to_contain_text(f"{taken + 1} photos")
    page.get_by_role("button", name="Show more photos of camera").click()
    expect(page.get_by_label("camera", exact=True).locator("figure")).to_have_count(taken + 1)
    (place.folder / "photos" / name / "camera" / "broken.png").unlink()
    page.locator("#class").fill("not wanted")
    page.get_by_role("button", name="Add it").click()
    page.get_by_role("button", name="Remove not wanted").click()
    expect(page.locator("#classes .class")).to_have_count(3)
    tab.fits()
    page.locator("#net").select_option("resnet20")
    page.locator("#minutes").select_option("")
    page.get_by_role("button", name="Train", exact=True).click()
    made = page.locator("#models .class")
    expect(made).to_contain_text(re.compile(r"of \d+ photos rightly that were kept back"), timeout=120_000)
    tab.fits()
    with page.expect_download() as started:
        page.get_by_role("button", name="Export as ONNX").click()
    path = started.value.path()
    assert started.value.suggested_filename == f"{name}.onnx"
    assert b"BatchNorm" in path.read_bytes() or b"Conv" in path.read_bytes()
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("#about")).to_contain_text("camera, cold, warm")
    page.locator("#files").set_input_files(place.files[0])
    expect(page.locator(".card h2")).to_have_text("warm")
    # The page knows the data set again.
    page.goto(f"/begin#{name}")
    expect(page.locator("#classes .class")).to_have_count(3)
    expect(page.locator("#models h3")).to_have_text(f"{name} (resnet20)")


def pictures(tab, place, folder, width, scheme):
    page = tab.page
    page.goto("/")
    page.locator("#files").set_input_files(place.files)
    expect(page.locator(".bars button")).to_have_count(10)
    page.locator(".bars button").first.click()
    expect(page.locator(".photo figcaption").first).to_contain_text("What speaks for")
    page.wait_for_timeout(400)
    page.screenshot(path=folder / f"try-{width}-{scheme}.png", full_page=True)
    begin(tab, place)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / f"begin-{width}-{scheme}.png", full_page=True)
    page.goto("/watch")
    page.locator("#rows button").last.click()
    expect(page.locator("#matrix tbody tr")).to_have_count(10)
    for box in page.locator("#rows input").all()[:2]:
        box.check()
    expect(page.locator("#differences tbody tr").nth(4)).to_be_visible()
    page.wait_for_timeout(400)
    page.screenshot(path=folder / f"watch-{width}-{scheme}.png", full_page=True)
    page.goto("/look")
    expect(page.locator("#gallery figure")).to_have_count(16, timeout=30_000)
    rows = page.locator("#fits tr")
    before = rows.count()
    page.locator("#fit").click()
    expect(rows).to_have_count(before + 1, timeout=60_000)
    page.locator("#kind").select_option("suspected")
    expect(page.locator("#gallery figure").first).to_contain_text("perhaps warm")
    page.locator("#kind").select_option("all")
    expect(page.locator("#gallery figure")).to_have_count(16)
    page.wait_for_timeout(400)
    page.screenshot(path=folder / f"look-{width}-{scheme}.png", full_page=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--latency", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every check at every width in every scheme")
    options = parser.parse_args()
    passed, failed = 0, 0
    # A machine that does much else answers late.
    expect.set_options(timeout=30_000)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Place(options.binary, pathlib.Path(folder), options.latency)
        # However this ends, the server does not outlive it.
        atexit.register(place.server.kill)
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=options.chromium, args=flags)
        checks = [check for name, check in globals().items() if name.startswith("check_")]
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
        for width in WIDTHS:
            for scheme in SCHEMES:
                for check in checks:
                    # A training takes a minute: both widths and both schemes see one, not all four pairs.
                    pair = WIDTHS.index(width) == SCHEMES.index(scheme)
                    if check in (check_watch, check_begin) and not (pair or options.all):
                        continue
                    try:
                        tab = Tab(browser, place, width, scheme)
                        check(tab, place)
                        tab.close()
                        passed += 1
                    except Exception as error:  # each check is reported
                        failed += 1
                        print(f"{check.__name__} at {width}, {scheme}: {type(error).__name__}: {error}", flush=True)
                if options.pictures:
                    tab = Tab(browser, place, width, scheme)
                    pictures(tab, place, options.pictures, width, scheme)
                    tab.close()
        browser.close()
        if place.end() != 0:
            failed += 1
            print("the server did not end well")
    print(f"page: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
