import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.search_plots import (
    COLOURS,
    MAIN_ROWS,
    OTHER_COLOURS,
    colours,
    digits_lines,
    in_lines,
    main,
    parse_arguments,
    regret_lines,
    spread,
)

DIGITS: dict[str, Any] = {
    "sides": {
        "ours": {
            "title": "ours",
            "runs": [
                {"epochs": 3, "improvements": [[1, 0.8], [3, 0.4]]},
                {"epochs": 3, "improvements": [[2, 0.6]]},
            ],
        },
        "ray": {"title": "Ray", "runs": [{"epochs": 40, "improvements": [[1, 0.9], [30, 0.5]]}]},
    }
}
CURVES: dict[str, Any] = {
    "steps": 30,
    "rows": {
        row: {
            "title": f"The row of {row}",
            "tasks": {
                "a": [{"improvements": [[1, 1.0], [2, low]]}, {"improvements": [[1, 1.0]]}],
                "b": [{"improvements": [[1, 0.5]]}, {"improvements": [[1, 0.5]]}],
            },
        }
        for row, low in {"random": 0.6, "ray": 0.8}.items()
    },
}


def test_losses_are_medians_and_quartiles_from_the_first_epoch_that_every_run_has() -> None:
    ours, ray = digits_lines(DIGITS)

    assert (ours.x[0], ours.x[-1], ours.ended) == (2, 40, 3)
    assert ours.middle[:2].tolist() == pytest.approx([0.7, 0.5])
    assert (ours.low[0], ours.high[0]) == (pytest.approx(0.65), pytest.approx(0.75))
    assert ours.middle[-1] == pytest.approx(0.5)  # it keeps what it found
    assert (ray.x[0], ray.ended) == (1, 40)


def test_regret_is_a_mean_over_tasks_with_the_error_of_the_seeds() -> None:
    (line,) = regret_lines(CURVES, ["random", "unknown"])

    assert line.x.tolist() == list(range(1, 31))
    assert line.middle[:2].tolist() == pytest.approx([0.75, (0.8 + 0.5) / 2])
    assert line.high[1] - line.middle[1] == pytest.approx(math.sqrt(0.2**2) / 2)
    assert line.low[0] == line.high[0] == 0.75


def test_rows_are_drawn_in_the_order_asked_for() -> None:
    assert [line.name for line in regret_lines(CURVES, ["random", "ray"])] == ["random", "ray"]
    assert set(MAIN_ROWS) <= set(COLOURS)


def test_one_seed_has_a_band_without_width() -> None:
    one = {"steps": 1, "rows": {"ray": {"title": "Ray", "tasks": {"a": [{"improvements": [[1, 0.5]]}]}}}}

    (line,) = regret_lines(one, ["ray"])

    assert line.low.tolist() == line.high.tolist() == [0.5]


@pytest.mark.parametrize(
    ("positions", "moved"),
    [
        ([0.1, 0.9], [0.1, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.1, 0.12], [0.9, 0.06, 0.16]),
        ([0.3, 0.32, 0.34, 0.45], [0.2025, 0.3025, 0.4025, 0.5025]),  # the fourth joins the crowd
        ([], []),
    ],
)
def test_labels_are_moved_apart_around_their_positions(positions: list[float], moved: list[float]) -> None:
    found = spread(positions, 0.1)

    assert found == pytest.approx(moved)
    assert all(b - a > 0.1 - 1e-9 for a, b in pairwise(sorted(found)))


def test_long_titles_are_broken_behind_the_colon_or_between_words() -> None:
    assert in_lines("tune-jobs: asha, gp") == "tune-jobs: asha, gp"
    assert in_lines("Ray Tune as shipped: ASHA, OptunaSearch") == "Ray Tune as shipped:\nASHA, OptunaSearch"
    assert in_lines("Ray Tune's ASHA, random search") == "Ray Tune's ASHA, random\nsearch"


def test_known_lines_have_their_own_colours_and_others_differ() -> None:
    assert colours(["gp", "new", "newer"]) == [COLOURS["gp"], *OTHER_COLOURS[:2]]


def test_the_figures_are_written_and_the_same_data_give_the_same_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"digits": DIGITS, "curves": CURVES}
    for name, results in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    arguments = [part for name in files for part in (f"--{name}", str(tmp_path / f"{name}.json"))]

    drawn = []
    for _ in range(2):
        main([*arguments, "--folder", str(tmp_path)])
        drawn.append([(tmp_path / f"search_{name}.svg").read_bytes() for name in files])

    assert drawn[0] == drawn[1]
    assert all(svg.startswith(b"<?xml") for svg in drawn[0])
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "search_digits.svg")


@pytest.mark.parametrize("given", [[], ["--digits", "x.json", "--folder", "none/such"]])
def test_wrong_arguments_are_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(given)
    assert caught.value.code == 2
