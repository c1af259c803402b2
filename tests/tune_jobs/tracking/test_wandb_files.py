"""Files of W&B runs: their owners, the files that are not uploaded, and the command to upload them."""

from pathlib import Path

import pytest

from tune_jobs.tracking.wandb_files import files_to_upload, remove_run, synced_mark, upload_line, wandb_run_id


def make_run(folder: Path, run_id: str, stamp: str = "20260101_120000") -> Path:
    file = folder / f"offline-run-{stamp}-{run_id}" / f"run-{run_id}.wandb"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_ids_name_the_run_folder_and_the_part() -> None:
    assert wandb_run_id("demo-20260101T120000Z-abcd", "0003") == "demo-20260101T120000Z-abcd-0003"


def test_ids_of_long_names_keep_the_end_that_no_other_run_has() -> None:
    run_id = wandb_run_id(f"{'x' * 80}-20260101T120000Z-abcd", "summary")
    assert len(run_id) <= 64
    assert run_id.endswith("-20260101T120000Z-abcd-summary")
    assert run_id[0].isalnum()


def test_a_run_is_removed_with_all_that_was_written_of_it_and_no_other(tmp_path: Path) -> None:
    make_run(tmp_path, "demo-0001")
    make_run(tmp_path, "demo-0001", "20260102_120000")
    others = [
        make_run(tmp_path, "demo-0011"),
        make_run(tmp_path, "other-demo-0001"),
        make_run(tmp_path, "demo-000"),
    ]
    remove_run(tmp_path, "demo-0001")
    assert sorted(tmp_path.glob("*/*.wandb")) == sorted(others)


def test_folders_without_a_mark_are_not_uploaded(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "demo-0001"), make_run(tmp_path, "demo-0002")
    synced_mark(first).touch()
    assert files_to_upload(tmp_path) == [second]
    assert files_to_upload(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (0, None),
        (1, "W&B: 1 W&B run is on this disk alone; `wandb sync {}` uploads it"),
        (3, "W&B: 3 W&B runs are on this disk alone; `wandb sync {}` uploads them"),
    ],
)
def test_a_message_says_how_to_upload_the_rest(count: int, line: str | None, tmp_path: Path) -> None:
    for number in range(count):
        make_run(tmp_path, f"demo-{number}")
    assert upload_line(tmp_path) == (line and line.format(tmp_path))
