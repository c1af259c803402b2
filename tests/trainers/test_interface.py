import json

import pytest

from tune_jobs.trainers.interface import STOP_SENTENCES, EpochResult, StopReason

RESULT = EpochResult(
    epoch=2, metrics={"train_loss": 0.5, "val_loss": 0.25, "f1": 0.75, "lr": 0.1}, seconds=1.5
)


def test_a_result_is_a_flat_row_in_the_order_of_its_metrics_and_comes_back_from_it():
    row = RESULT.to_mapping()
    assert list(row.items()) == [
        ("epoch", 2),
        ("train_loss", 0.5),
        ("val_loss", 0.25),
        ("f1", 0.75),
        ("lr", 0.1),
        ("seconds", 1.5),
    ]
    assert EpochResult.from_mapping(json.loads(json.dumps(row))) == RESULT


def test_a_row_says_that_the_training_diverged_only_if_it_did():
    diverged = EpochResult(epoch=1, metrics={"val_loss": 1e300}, seconds=0.5, diverged=True)
    assert diverged.to_mapping() == {"epoch": 1, "val_loss": 1e300, "seconds": 0.5, "diverged": True}
    assert EpochResult.from_mapping(diverged.to_mapping()) == diverged
    infinite = EpochResult(epoch=1, metrics={"val_loss": float("inf")}, seconds=0.5)
    assert not EpochResult.from_mapping(infinite.to_mapping()).diverged, "names of losses do not decide it"


@pytest.mark.parametrize("reason", StopReason)
def test_every_stop_reason_is_a_code_with_a_sentence(reason):
    assert reason.value == reason.name.lower()
    assert reason.sentence == STOP_SENTENCES[reason]
    assert reason.sentence[0].islower()
    assert not reason.sentence.endswith(".")


@pytest.mark.parametrize("name", ["trial_id", "epoch", "seconds", "diverged"])
def test_no_metric_has_the_name_of_a_column(name: str) -> None:
    with pytest.raises(ValueError, match=f"a metric is called '{name}'; .* give it another name"):
        EpochResult(epoch=1, metrics={"loss": 0.5, name: 1.0}, seconds=0.1)
