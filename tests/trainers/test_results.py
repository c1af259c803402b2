from tune_jobs.trainers.results import EpochResult

RESULT = EpochResult(epoch=2, train_loss=0.5, val_loss=0.25, metrics={"f1": 0.75}, lr=0.1, seconds=1.5)


def test_a_result_is_a_flat_row_and_comes_back_from_it():
    row = RESULT.to_mapping()
    assert row == {"epoch": 2, "train_loss": 0.5, "val_loss": 0.25, "f1": 0.75, "lr": 0.1, "seconds": 1.5}
    assert EpochResult.from_mapping(row) == RESULT


def test_values_by_name():
    assert (RESULT.value("val_loss"), RESULT.value("f1")) == (0.25, 0.75)
