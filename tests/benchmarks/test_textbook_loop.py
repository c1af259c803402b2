import pytest

from benchmarks.textbook_loop import (
    bare_loop_epochs_per_second,
    dataloader_epochs_per_second,
    report,
    trainer_epochs_per_second,
)


def test_each_loop_trains() -> None:
    assert dataloader_epochs_per_second(512, 0.0) > 0
    assert bare_loop_epochs_per_second(512, 0.0) > 0
    assert trainer_epochs_per_second(512, 0.0, validation_rows=2) > 0


@pytest.mark.parametrize("wanted", [True, False])
def test_the_report_names_the_target_of_small_batches_if_they_were_measured(*, wanted: bool) -> None:
    text = report(1, batch_sizes=[8 if wanted else 512], seconds=0.0)

    assert ("wanted: 4 or more" in text) is wanted
    assert "ours, 359 validation rows" in text
