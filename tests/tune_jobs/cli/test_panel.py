"""The progress of a run as lines of a terminal: at any width, without colour, in any encoding."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.tune_jobs.sample_events import (
    ALL_STATES,
    RUN_STARTED,
    Clock,
    created,
    progress_after,
    reported,
    started,
)
from tune_jobs.cli.panel import Panel, shows_blocks
from tune_jobs.cli.progress import RunProgress
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    Event,
    TrialEnded,
    WorkerLost,
)

MakeSections = Callable[..., dict[str, Any]]
WIDTHS = (30, 60, 80, 200)


class Latin(io.StringIO):
    """A terminal that cannot show the characters of curves."""

    encoding = "latin-1"  # type: ignore[assignment]


def drawn(progress: RunProgress, width: int = 80, file: io.StringIO | None = None, **how: Any) -> list[str]:
    file = file or io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, **{"color_system": None, **how})
    console.print(Panel(progress))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture
def make(make_sections: MakeSections) -> Callable[..., RunProgress]:
    def make(events: list[Event], **training: Any) -> RunProgress:
        changes = {"scheduler": {"grace_epochs": 1, "reduction_factor": 2}} | training
        return progress_after(Job.from_mapping(make_sections(changes)), events, Clock())

    return make


Make = Callable[..., RunProgress]
LONG = " ".join(["a very long reason, and", "/a/path/without/any/blank" * 9] * 9)
MANY: list[Event] = [
    RUN_STARTED,
    created(
        0, **{"model.act": "[red]", **{f"model.argument_{number}": [0.5, "日本語"] for number in range(40)}}
    ),
    *map(created, range(1, 9)),
    started(0),
    reported(0, *(math.exp(-epoch / 99) for epoch in range(700))),
    *(
        TrialEnded(
            trial_id=f"{number:04d}",
            status=Status.FAILED,
            cause=Cause.TRAINING_FAILED,
            reason=f"{'abcdefgh'[number]} {LONG}",
        )
        for number in range(1, 7)
    ),
    WorkerLost(trial_id="0008", reason=f"\x1b[2J\r\n{LONG}"),
]


def test_before_the_first_trial_the_panel_says_that_the_run_is_starting(make: Make) -> None:
    assert drawn(make([])) == [
        "─" * 40,
        "trials  0 of 6 ended",
        "rungs   epoch       1  2  4  8",
        "        reached it  0  0  0  0",
        "        wait there  0  0  0  0",
        "        promoted    0  0  0  0",
        "best    no score yet",
        "time    0 s   workers are starting",
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("file", [io.StringIO, Latin])
def test_nothing_is_wider_than_the_terminal_or_higher_than_24_lines(
    make: Make, width: int, file: type[io.StringIO]
) -> None:
    progress = make(MANY, **{"training/max_epochs": 2**20})
    progress.note = LONG
    lines = drawn(progress, width, file())
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= 24 or width < 60
    labels = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert labels == ["trials", "rungs", "best", "failed", "lost", "time", "note"]


def test_cut_text_ends_in_dots_and_control_characters_are_spelled_out(make: Make) -> None:
    lines = drawn(make(MANY))
    assert sum(line.endswith("…") for line in lines) == 1 + 3 + 1, "the configuration, three reasons, a loss"
    assert any(line.startswith("        3 for 3 further reasons") for line in lines)
    assert any(line.startswith("        model.act=[red] model.argument_0=[0.5, ") for line in lines)
    assert any(line.startswith("lost    1 worker, last of trial 0008: \\x1b[2J a very") for line in lines)


def test_of_twenty_rungs_the_first_and_the_last_that_fit_are_shown(make: Make) -> None:
    progress = make(MANY, **{"training/max_epochs": 2**20})
    (epoch,) = (line for line in drawn(progress, 60) if line.startswith("rungs"))
    assert epoch.split() == ["rungs", "epoch", "1", "2", "..", "262144", "524288"]
    (epoch,) = (line for line in drawn(progress, 200) if line.startswith("rungs"))
    assert epoch.split()[2:] == [str(2**rung) for rung in range(20)]


def test_without_blocks_curve_and_bar_are_of_plain_letters(make: Make) -> None:
    text = "\n".join(drawn(make(ALL_STATES), file=Latin()))
    text.encode("ascii")
    assert "=" * 20 + "-" * 20 in text
    assert "#_" in text
    assert (shows_blocks("utf-8"), shows_blocks("ascii"), shows_blocks("no such")) == (True, False, False)


def test_losses_that_are_no_numbers_leave_the_curve_readable(make: Make) -> None:
    progress = make([RUN_STARTED, created(0), reported(0, 0.5, math.inf, 0.25, math.nan)])
    assert "        █x▁x   val_loss 0.25 to 0.5" in drawn(progress)


def test_a_steep_curve_is_on_a_log_scale_and_says_so(make: Make) -> None:
    progress = make([RUN_STARTED, created(0), reported(0, 100.0, 10.0, 1.0)])
    assert "        █▅▁   val_loss 1 to 100, log scale" in drawn(progress)


def test_colour_adds_nothing_but_colour(make: Make) -> None:
    progress = make(ALL_STATES)
    coloured = drawn(progress, color_system="truecolor")
    assert any("\x1b[" in line for line in coloured)
    assert not any("\x1b" in line for line in drawn(progress))
    plain = drawn(progress, color_system="truecolor", no_color=True)
    assert [Console(file=io.StringIO()).render_str(line).plain for line in drawn(progress)] == drawn(progress)
    assert not any("[3" in line for line in plain), "no colour codes; bold and dim may stay"


@pytest.mark.parametrize("method", ["asha_stopping", "none"])
def test_other_schedulers_show_the_parts_that_apply(make_sections: MakeSections, method: str) -> None:
    job = Job.from_mapping(make_sections({"scheduler": {"method": method, "grace_epochs": 1}}))
    lines = drawn(progress_after(job, ALL_STATES, Clock()))
    rungs = [line for line in lines if line.startswith("rungs")]
    if method == "none":
        assert rungs == []
    else:
        at = lines.index(rungs[0])
        assert lines[at : at + 4] == [
            "rungs   epoch        1  3",
            "        reached it   4  1",
            "        continued    1  0",
            "        ended there  2  1",
        ]


def test_time_left_is_shown_as_soon_as_there_is_a_guess(make: Make) -> None:
    progress = make(ALL_STATES)
    assert drawn(progress)[-1].startswith("time    6 s   ")
    assert drawn(progress)[-1].endswith(" left")
