"""Pictures of a run's report for the documentation: `python docs/images/make_report_pictures.py RUN NAME`.

Opens the report in Chromium and writes `docs/images/NAME-<part>.png` for the parts that are asked for.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from tune_jobs.report.writing import write_report

IMAGES = Path(__file__).resolve().parent
PARTS = {
    "top": "header, .pair",
    "tuning": "#tuning-curve-section",
    "curves": "#learning-curves-section",
    "parameters": "#hyperparameters-section",
    "timeline": "#timeline-section",
    "failures": "#failures",
    "trials": "#trials",
}


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(
        prog="python docs/images/make_report_pictures.py", description="Takes pictures."
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(given.run, Path(folder) / "report.html")
        photograph(report, given.name, given.parts, given.width, given.scheme)


def photograph(report: Path, name: str, parts: list[str], width: int, scheme: str) -> None:
    """One picture a part, in few colours, which keeps it small."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (of the development tools)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn]")
        for part in parts:
            path = IMAGES / f"{name}-{part}.png"
            boxes = [box for found in page.locator(PARTS[part]).all() if (box := found.bounding_box())]
            left, top = (min(box[side] for box in boxes) - 8 for side in ("x", "y"))
            right = max(box["x"] + box["width"] for box in boxes) + 8
            bottom = max(box["y"] + box["height"] for box in boxes) + 8
            clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
            page.screenshot(path=path, clip=clip, full_page=True)
            Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
