"""What is said of a job that is wrong: by its file, by overrides, section by section and between sections."""

from pathlib import Path

from tests.messages.conftest import Say
from tests.messages.jobs import JOB, write_job
from tests.messages.product import Job, run_errors
from tests.messages.snapshots import check

FILES = {
    "an empty file": "",
    "a list": "[1, 2]",
    "one text": "just words",
    "a key that is given twice": "name: a\nname: b\n",
    "a bracket that is not closed": "data: {source: digits\n",
    "an unknown character": "data: @nothing\n",
    "an alias that contains itself": "a: &a [*a]\n",
    "aliases that stand for millions of values": "\n".join(
        [
            "a: &a [x, x]",
            *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        ]
    ),
    "a number of thousands of digits": f"seed: 0x{'f' * 5000}\n",
    "a tag that does not fit": "a: !!int words\n",
    "nothing but a name": "name: small\n",
    "no required keys": "data: {}\nmodel: {}\ntraining: {}\nsearch: {}\n",
    "sections that are no sections": "data: digits\nmodel: [mlp]\ntraining: 3\nsearch: null\nlimits: true\n",
}

OVERRIDES = {
    "words that are no override": "stray -x 3 --",
    "an override without a value": "--search.trials",
    "a name through a value": "--name.first x --model.name.first y",
    "an option that is misspelt": "--addres 1.2.3.4:5",
    "unknown keys": "--datta.source x --training.max_epoch 3 --search.trails 3 --data.split.seeed 1 --zzz 1",
    "numbers out of range": (
        "--search.trials 0 --training.max_epochs 1.5 --limits.minutes -1 --limits.retries_per_trial -2 "
        "--scheduler.reduction_factor 1 --resources.cpus_per_trial 0 --resources.workers_per_trial 5000"
    ),
    "numbers that are none": (
        "--limits.minutes .inf --limits.minutes_per_epoch soon --seed x --training.clip_grad_norm [1] "
        "--resources.max_concurrent true"
    ),
    "shares of a GPU": "--resources.gpus_per_trial 1.5",
    "GPUs of several workers": "--resources.gpus_per_trial 2 --resources.workers_per_trial 2",
    "values of another type": (
        "--name 3 --data.standardize 1 --data.arguments 3 --training.metrics mae --tracking.tensorboard maybe "
        "--search.points 3 --tracking.wandb on"
    ),
    "a name that is no name": "--name 'a job' --training.loss squared --training.device gpu --model.name forest",
    "a name that is too long": f"--name {'long' * 40}",
    "words that are not among the valid ones": (
        "--search.method bayes --scheduler.method hyperband --data.missing drop --data.duplicates warn "
        "--selection.mode most --training.batching random --training.schedule.name cosin --data.split.method all"
    ),
    "shares of the split": "--data.split.train 0.9",
    "a split that needs a column": "--data.split.method group",
    "a split that needs none": "--data.split.by a",
    "a schedule and a stopping": (
        "--training.schedule.gamma 2 --training.schedule.warmup 1 --training.schedule.step_size 0 "
        "--training.early_stopping.patience 0 --training.early_stopping.min_delta -1"
    ),
    "names of W&B": "--tracking.wandb.project a/b --tracking.wandb.tags [''] --tracking.wandb.mode always",
    "a storage that is none": "--storage ''",
    "a storage of another kind": "--storage ftp://place",
    "a bucket that is none": "--storage s3://UP/x",
    "a prefix that goes up": "--storage s3://bucket/a/../b",
    "an unknown source": "--data.source digit --data.target null",
    "a file that is missing": "--data.source table.parquet --data.target null",
    "references that lead nowhere": (
        "--model.name nowhere:make --training.loss own:nothing --training.metrics '[own:loss, own.part:x]' "
        "--data.source broken:load --tracking.trackers '[folder:x, own:los]'"
    ),
    "a module with the name of a library": "--model.name torch:Net --training.loss profile:loss",
    "references of another form": "--model.name 'own:' --tracking.trackers '[own]'",
    "arguments of a model": "--model.arguments '{hiden: [4], dropout: 2, activation: swish}'",
    "arguments of a model that has few": "--model.name linear --model.arguments '{depth: 3}'",
    "an even kernel": "--model.name cnn --model.arguments '{kernel_size: 4}'",
    "metrics and losses": "--training.metrics '[accuracy, mae, mae]'",
    "a selection that is not measured": "--selection.metric rmse",
    "a selection that is unknown": "--selection.metric val_los",
    "a mode that takes the worst": "--selection.metric mae --selection.mode max",
    "a grace that is too long": "--scheduler.grace_epochs 20",
    "too many points": "--search.trials 1 --search.points '[{lr: 0.1}, {lr: 0.2}]'",
    "points outside of the space": (
        "--search.points '[{lr: 9, optimizer: lbfgs, momentum: 0.5}, {optimizer: adam, momentum: 0.5}, {x: 1}]'"
    ),
    "a value of a thousand words": f"--{'x' * 3000} 3",
    "a grid without an end": "--search.method grid",
    "a device of one machine": "--training.device cuda:1 --resources.workers_per_trial 2",
    "parameters that cannot be searched": (
        "--search.space '{max_epochs: 3, training.max_epochs: {low: 1, high: 9}, training.loss: {values: [mse]}, "
        "learning_rate: 0.1, model.depth: {values: [1, 2]}, optimizer: {values: [sgd, lion]}, "
        "lr: {low: 0.0, high: 2.0}, model.hidden: {values: [[0]]}, momentum: {low: 0.0, high: 1.0}}'"
    ),
}

NOTICES = {
    "a plan": "",
    "a plan on a grid": (
        "--search.method grid --search.space '{lr: {values: [0.1, 0.2]}, batch_size: 8}' --scheduler.method none"
    ),
    "a plan that no trial can come to the end of": "--training.max_epochs 200 --scheduler.grace_epochs 1",
    "parameters that do nothing": (
        "--search.space '{optimizer: {values: [adam, sgd]}, momentum: {low: 0.0, high: 0.9}, beta1: 0.5, "
        "max_iter: {values: [4, 5]}}'"
    ),
    "a grid that is not tried in full": (
        "--search.method grid --search.trials 3 --search.space '{lr: {values: [0.1, 0.2, 0.3, 0.4, 0.5]}}'"
    ),
    "stopping at rungs": "--scheduler.method asha_stopping --selection.metric mae",
    "the median rule": "--scheduler.method median --search.method random",
}


def test_files_that_are_no_job(place: Path, say: Say) -> None:
    said = {"no such file": say("validate job.yaml"), "a folder": say("validate .")}
    (place / "latin.yaml").write_bytes(b"name: \xff\n")
    said["another encoding"] = say("validate latin.yaml")
    for name, text in FILES.items():
        write_job(place, text)
        said[name] = say("validate job.yaml")
    check("job_file", said, {place: "FOLDER"})


def test_jobs_that_are_wrong(place: Path, say: Say) -> None:
    write_job(place)
    (place / "own.py").write_text("import nothing_of_this_name\n\ndef loss(): ...\n")
    (place / "broken.py").write_text("def load(:\n")
    for name in ("torch.py", "profile.py"):
        (place / name).write_text("def loss(): ...\n")
    (place / "folder").mkdir()
    said = {name: say(f"validate job.yaml {overrides}") for name, overrides in OVERRIDES.items()}
    check("job_checks", said, {place: "FOLDER"})


def test_plans_and_notices(place: Path, say: Say) -> None:
    write_job(place)
    said = {name: say(f"validate job.yaml {overrides}") for name, overrides in NOTICES.items()}
    check("validate", said, {place: "FOLDER"})


def test_jobs_that_only_python_can_make_wrong() -> None:
    """What YAML has no form for."""
    said = {}
    for name, changes in {
        "values that no file can hold": {"arguments": {"a": {1, 2}, "b": {3: 4}, "c": [float("nan")]}},
        "keys that are no text": {1: 2},
    }.items():
        sections = {
            "name": "small",
            "data": {"source": "linear_gaussian", **changes},
            "model": {"name": "linear"},
            "training": {"loss": "mse"},
            "search": {"space": {"lr": 0.1}},
        }
        try:
            Job.from_mapping(sections)
        except run_errors.JobError as error:
            said[name] = str(error)
    check("job_mapping", said, {})


def test_the_job_is_valid(place: Path, say: Say) -> None:
    """Else every other case would say the same."""
    write_job(place)
    assert say("validate job.yaml").endswith("exit code 0")
    assert "trials: 6" in JOB
