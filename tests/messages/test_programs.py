"""What is said about jobs with a program of one's own, and about programs that do not do what a trial needs."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.messages.snapshots import check
from tests.trainers.programs.test_training import request_in, training_of
from tune_jobs import trial
from tune_jobs.cli.tables import plan_lines
from tune_jobs.errors import ExpectedError
from tune_jobs.job.job import Job
from tune_jobs.trainers.errors import ProgramError
from tune_jobs.trainers.interface import Seal, WorkerRank
from tune_jobs.trainers.programs.kind import ProgramKind
from tune_jobs.trainers.programs.settings import LengthSettings, ProgramSettings
from tune_jobs.trainers.programs.state import Header, write_state
from tune_jobs.trainers.programs.training import ProgramTraining

LOOP = "for e in trial.epochs(4): trial.report(val_loss=1)\n"
PROGRAMS = {
    "ended early": "print('some words')",
    "exit code": "import sys; sys.exit(3)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "error": "{}['key']",
    "shorter than the job": "for e in trial.epochs(3): pass",
    "no report": "for e in trial.epochs(4): pass",
    "only a test": "for e in trial.epochs(4): trial.report(test_acc=1)",
    "no number": "for e in trial.epochs(4): trial.report(val_loss='low')",
    "reserved name": "for e in trial.epochs(4): trial.report(seconds=1)",
    "no state": "for e in trial.epochs(4, net=7): pass",
    "keep of no use": "for e in trial.epochs(4, keep=7): pass",
    "keep in the call": "for e in trial.epochs(4, keep={'a': 1}): pass",
    "two loops": "for e in trial.epochs(4):\n    trial.epochs(4)",
    "a state that cannot be pickled": (
        "kept = [lambda: 0]\nfor e in trial.epochs(4, keep=kept): trial.report(val_loss=1)"
    ),
    "diverged": "for e in trial.epochs(4): trial.report(val_loss=float('nan'))",
    "rejected": "trial.reject('3 heads do not divide 8')",
    "no such parameter": "trial.get('lr')",
    "nothing read": "trial.get('learning_rates', 1)\n" + LOOP,
    "a path outside": "trial.path('../file')",
    "too small a split": "trial.split(10, validation=0.5, test=0.6)",
    "test rows": "trial.split(10, validation=0.5, test=0.2); trial.test_rows()",
    "report of another process": (
        "import os\nfor e in trial.epochs(4):\n"
        "    if os.fork() == 0:\n        try: trial.report(val_loss=1)\n"
        "        except RuntimeError as error: open('said', 'w').write(str(error))\n        finally: os._exit(0)\n"
        "    os.wait()\n    trial.reject(open('said').read())"
    ),
}  # fmt: skip


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (its text is the result)
        call()
    return str(caught.value)


def trained(folder: Path, source: str, **changes: Any) -> str:
    def train() -> None:
        with training_of(folder, source, **changes) as training:
            list(training.epochs())

    return complaint(train)


@pytest.mark.slow
def test_programs_that_fail(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = {
        name: trained(place, source, configuration={"learning_rate": 1} if name == "nothing read" else {})
        for name, source in PROGRAMS.items()
    }
    parsed = (
        "import argparse; p = argparse.ArgumentParser(); p.add_argument('--lr', type=int); p.parse_args()"
    )
    said["a value that argparse changes"] = trained(
        place, parsed.replace("int", "lambda text: 4"), configuration={"lr": 3}, how={"arguments": "argparse"}
    )
    said["several workers"] = complaint(
        lambda: training_of(place, LOOP, worker=WorkerRank(rank=0, workers=2))
    )
    with training_of(place, LOOP.replace("val_loss", "test_acc=1, val_loss")) as training:
        next(training.epochs())
    said["the output"] = capfd.readouterr().out.replace("tune-jobs: main.py was", "\ntune-jobs: main.py was")
    with training_of(place, PROGRAMS["ended early"]) as training, pytest.raises(ProgramError) as caught:
        next(training.epochs())
    said["last lines"] = str(caught.value.__cause__)
    (place / "main.py").unlink()
    script = ProgramSettings(script="main.py")
    said["a script that is missing here"] = complaint(lambda: ProgramTraining(script, request_in(place)))
    check("programs", said, {place: "FOLDER"})


@pytest.mark.slow
def test_states_of_programs(place: Path) -> None:
    kept = "kept = {}\nfor e in trial.epochs(4, keep=kept): trial.report(val_loss=1)\n"

    def saved(source: str) -> io.BytesIO:
        with training_of(place, source) as training:
            list(training.epochs())
            training.save(file := io.BytesIO())
        file.seek(0)
        return file

    def load(source: str, state: io.BytesIO, **changes: Any) -> str:
        def resume() -> None:
            with training_of(place, source, **changes) as training:
                training.load(state)
                list(training.epochs())

        return complaint(resume)

    def resumed(source: str) -> str:
        with training_of(place, kept) as training:
            next(training.epochs())
            training.save(file := io.BytesIO())
        file.seek(0)
        return load(source, file)

    kind = ProgramKind(program=ProgramSettings(script="main.py"), length=LengthSettings(epochs=4))

    def test(source: str) -> str:
        state = saved(kept + source)

        def evaluate() -> None:
            with kind.test(request_in(place), state) as test:
                test()

        return complaint(evaluate)

    (place / "part").write_bytes(b"no pickle")
    unread, scoreless = io.BytesIO(), io.BytesIO()
    row = {"epoch": 1, "val_loss": 1.0, "seconds": 0.0}
    for file, best in ((unread, (1, 1.0)), (scoreless, None)):
        write_state(
            file, Header(epoch=1, last=row, best=best, left=False), request_in(place), place / "part", None
        )
        file.seek(0)
    said = {
        "no state of a program": load(kept, io.BytesIO(b"[]")),
        "of another seed": load(kept, saved(kept), seed=4),
        "other objects": resumed(kept.replace("keep=kept", "keep=kept, rows=__import__('random').Random(1)")),
        "without keep": resumed(kept.replace("keep=kept", "")),
        "a test that reports nothing": test(""),
        "a test that ends": test("raise SystemExit(4)"),
        "a state that cannot be read": complaint(lambda: kind.load_model(request_in(place), unread, None)),
        "a state without a score": complaint(lambda: kind.test(request_in(place), scoreless)),
        "a test without a loop": test("").replace("\n", " "),
    }
    (place / "main.py").write_text("from tune_jobs import trial\ntrial.report(test_loss=1)")
    state = saved(kept)
    (place / "main.py").write_text("from tune_jobs import trial\ntrial.report(test_loss=1)")
    said["a test without a loop"] = complaint(kind.test(request_in(place), state).__enter__)
    check("programs_states", said, {place: "FOLDER"})


def test_jobs_with_a_program(place: Path) -> None:
    def job(program: Any, **sections: Any) -> str:
        path = place / "job.yaml"
        whole = {
            "name": "own",
            "program": program,
            "length": {"epochs": 9},
            "search": {
                "space": {"lr": {"low": 0.1, "high": 1}, "batchsize": {"values": [1, 2]}},
                "trials": 4,
            },
            **sections,
        }
        import json

        path.write_text(json.dumps(whole))
        try:
            return "\n".join(plan_lines(Job.from_file(path), None))
        except ExpectedError as error:
            return str(error)

    (place / "main.py").write_text("")
    (place / "work.py").write_text("def train(lr, batch_size, layers, depth=1, *, trial): pass\n")
    (place / "broken.py").write_text("def train(:\n")
    script = {"script": "main.py"}
    check(
        "programs_jobs",
        {
            "a plan": job(script),
            "a plan without a seal": job({**script, "test_is_validation": True}),
            "none": job({}),
            "a function with arguments": job({"function": "work:train", "arguments": "argparse"}),
            "no parser": job({"command": ["python", "none.py", "{parameters}"]}),
            "an unknown parser": job({**script, "arguments": "docopt"}),
            "both": job({**script, "function": "work:train"}),
            "no such files": job({"script": "none.py", "python": "env/bin/python"}),
            "no such module": job({"function": "none:train"}),
            "no such function": job({"function": "work:trian"}),
            "no Python": job({"function": "broken:train"}),
            "other names": job({"function": "work:train"}),
            "a test selects": job(script, selection={"metric": "test_acc", "mode": "max"}),
            "a metric without a mode": job(script, selection={"metric": "val_acc"}),
            "no length": job(script, length={}),
            "levels of the seal": "\n".join(f"{seal}: {seal.sentence}" for seal in Seal),
        },
        {place: "FOLDER"},
    )


def test_calls_outside_of_a_trial() -> None:
    said = {
        "get": complaint(lambda: trial.get("lr")),
        "reject": complaint(lambda: trial.reject("3 heads do not divide 8")),
        "keep": complaint(lambda: trial.epochs(4, keep=7)),
        "split": complaint(lambda: trial.split(10, validation=20)),
    }
    check("programs_outside", said, {})
