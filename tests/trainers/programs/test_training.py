"""What happens to programs, and what they may do: their ends, their state, their surroundings."""

import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import running, wait_until
from tests.trainers.programs.programs import LINE, write_programs
from tune_jobs.trainers.errors import Diverged, MetricMissing, ProgramError, Rejected
from tune_jobs.trainers.interface import EpochResult, StopReason, TrainingRequest
from tune_jobs.trainers.programs.kind import ProgramKind
from tune_jobs.trainers.programs.settings import LengthSettings, ProgramSettings
from tune_jobs.trainers.programs.training import ProgramTraining
from tune_jobs.trainers.settings import ScoreSettings


def request_in(folder: Path, **changes: Any) -> TrainingRequest:
    values: dict[str, Any] = {
        "configuration": {},
        "seed": 3,
        "max_epochs": 4,
        "score": ScoreSettings(metric="val_loss"),
        "folder": folder,
    }
    return TrainingRequest(**{**values, **changes})


def training_of(
    folder: Path, source: str, *, how: dict[str, Any] | None = None, **changes: Any
) -> ProgramTraining:
    """Return the training by a script, which begins with the import of `trial`."""
    (folder / "main.py").write_text("from tune_jobs import trial\n" + textwrap.dedent(source))
    return ProgramTraining(ProgramSettings(script="main.py", **(how or {})), request_in(folder, **changes))


def train(folder: Path, source: str, **changes: Any) -> list[EpochResult]:
    with training_of(folder, source, **changes) as training:
        return list(training.epochs())


def failure(folder: Path, source: str, **changes: Any) -> str:
    with pytest.raises(ProgramError) as caught:
        train(folder, source, **changes)
    return str(caught.value)


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


REPORT = "for epoch in trial.epochs(4): trial.report(val_loss=epoch)\n"


# The surroundings of a program


def test_it_runs_in_the_main_thread_with_its_own_group_and_no_input(tmp_path: Path) -> None:
    (result, *_) = train(
        tmp_path,
        """
        import os, sys, threading
        assert threading.current_thread() is threading.main_thread() and threading.active_count() == 1
        assert sys.stdin.read() == "" and __name__ == "__main__" and __file__ == sys.argv[0]
        assert os.getpgid(0) == os.getpid()
        for epoch in trial.epochs(4):
            trial.report(val_loss=1, stage_is_train=trial.stage == "train", same_group=os.getpgid(0) == PARENT)
        """.replace("PARENT", str(os.getpgid(0))),
    )
    assert result.metrics == {"val_loss": 1, "stage_is_train": True, "same_group": False}


@pytest.mark.parametrize("name", ["trainers", "utils", "ray", "torch", "numpy", "wandb", "src", "worker"])
@pytest.mark.parametrize("package", [True, False])
def test_the_user_s_modules_may_have_any_name(tmp_path: Path, name: str, package: bool) -> None:
    file = tmp_path / name / "__init__.py" if package else tmp_path / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("VALUE = 7")
    results = train(
        tmp_path, f"import {name}\nfor epoch in trial.epochs(4): trial.report(val_loss={name}.VALUE)"
    )
    assert [result.metrics["val_loss"] for result in results] == [7] * 4


def test_a_folder_with_blanks_and_another_current_folder_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder {how} with blanks"
    folder.mkdir()
    (folder / "data.txt").write_text("5")
    monkeypatch.chdir(tmp_path)
    source = "for epoch in trial.epochs(4): trial.report(val_loss=float(open('data.txt').read()))"
    assert len(train(folder, source)) == 4


def test_files_of_its_own_are_in_a_folder_of_the_trial(tmp_path: Path) -> None:
    source = """
    for epoch in trial.epochs(4):
        trial.path("deep/best.txt").write_text(str(epoch))
        trial.report(val_loss=1)
    """
    train(tmp_path, source, files=tmp_path / "files" / "0001")
    assert (tmp_path / "files" / "0001" / "deep" / "best.txt").read_text() == "3"
    assert "valid: a relative path" in failure(tmp_path, "trial.path('../other')", files=tmp_path / "files")


# Its ends


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("print('nothing to do')", "main.py ended with exit code 0 in epoch 1 of 4"),
        ("for e in trial.epochs(4):\n trial.report(val_loss=1)\n if e: raise SystemExit", "code 0 in epoch 2 of 4"),
        ("import sys; sys.exit(3)", "exit code 3 in epoch 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV in epoch 1"),
        (REPORT.replace("=epoch", "=[][0]"), "failed in epoch 1 of 4: IndexError: list index out of range"),
        ("def f(:", "failed in epoch 1 of 4: .*SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("for e in trial.epochs(3): trial.report(val_loss=1)", r"trial.epochs\(3\) is shorter than length.epochs"),
        ("for e in trial.epochs(4): trial.report(val_loss='low')", "given val_loss='low'; valid: a number"),
        ("for e in trial.epochs(4): trial.report(epoch=1)", "ValueError: .*'epoch' is a column of every table"),
        ("for e in trial.epochs(4, net=7): pass", "TypeError: .*net is of type int, which has no state_dict"),
        ("best = 1\nfor e in trial.epochs(4, keep={'best': best}): pass", "keep is put together in the call"),
    ],
)  # fmt: skip
def test_an_end_before_the_last_epoch_is_a_failure_with_its_reason(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(ProgramError, match=f"(?s){message}"):
        train(tmp_path, source)


def test_a_program_that_fails_is_not_started_again(tmp_path: Path) -> None:
    failure(tmp_path, "open('starts', 'a').write('x')\nraise ValueError")
    assert (tmp_path / "starts").read_text() == "x"


def test_a_failure_has_the_traceback_of_the_user_s_code_alone(tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        train(tmp_path, "def work():\n    raise KeyError('k')\nfor e in trial.epochs(4): work()")
    details = str(caught.value.__cause__)
    assert details.count("File ") == 2
    assert f'File "{tmp_path}/main.py", line 3, in work' in details


def test_an_epoch_without_the_score_says_what_was_reported(tmp_path: Path) -> None:
    with pytest.raises(
        MetricMissing, match=r"in epoch 1 main\.py reported nothing; report it in every epoch"
    ):
        train(tmp_path, "for e in trial.epochs(4): pass")
    with pytest.raises(MetricMissing, match="reported acc and test_loss of the test; report it"):
        train(tmp_path, "for e in trial.epochs(4): trial.report(acc=1, test_loss=1)")


def test_a_score_that_is_no_number_is_a_divergence_and_others_may_be_none(tmp_path: Path) -> None:
    source = (
        "for e in trial.epochs(4): trial.report(val_loss=1 if e < 2 else float('nan'), other=float('inf'))"
    )
    with training_of(tmp_path, source) as training:
        results = training.epochs()
        assert [next(results).diverged for _ in range(3)] == [False, False, True]
        with pytest.raises(Diverged, match="val_loss is no finite number at epoch 3"):
            next(results)


def test_a_configuration_can_be_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="rejected by the program: 3 heads do not divide 8"):
        train(tmp_path, "trial.reject('3 heads do not divide 8')")


def test_a_parameter_that_nobody_reads_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = "size = trial.get('batch_size', 4)\n" + REPORT
    said = failure(tmp_path, source, configuration={"batchsize": 8})
    assert "does not read the parameters batchsize; did you mean 'batch_size'?; it reads batch_size" in said


def test_what_comes_after_the_loop_is_never_reached_in_a_trial(tmp_path: Path) -> None:
    for leave in ("pass", "if epoch == 1: break"):
        source = f"""
        try:
            for epoch in trial.epochs(4):
                trial.report(val_loss=epoch)
                {leave}
        except BaseException:
            pass
        finally:
            open("tested", "w")
        """
        with training_of(tmp_path, source) as training:
            epochs = len(list(training.epochs()))
            reason = training.stop_reason
        assert (epochs, reason) == ((4, StopReason.MAX_EPOCHS) if leave == "pass" else (2, StopReason.USER))
        assert not (tmp_path / "tested").exists()


def test_an_error_in_the_loop_is_not_taken_for_a_break(tmp_path: Path) -> None:
    source = """
    def bars(iterable):
        for each in iterable:
            yield each
    for epoch in bars(trial.epochs(4)):
        trial.report(val_loss=1)
        int("x")
    """
    assert "ValueError: invalid literal" in failure(tmp_path, source)
    with training_of(tmp_path, source.replace('int("x")', "break")) as training:
        assert len(list(training.epochs())) == 1
        assert training.stop_reason is StopReason.USER


def test_functions_for_the_end_are_called(tmp_path: Path) -> None:
    train(tmp_path, "import atexit\natexit.register(lambda: open('flushed', 'w').close())\n" + REPORT)
    assert (tmp_path / "flushed").exists()


@pytest.mark.parametrize("ignoring", [False, True])
def test_no_process_is_left_even_if_it_left_the_group_and_ignores_signals(
    tmp_path: Path, ignoring: bool
) -> None:
    source = f"""
    import signal, subprocess, sys, time
    if {ignoring}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session={ignoring})
    open("pid", "w").write(str(child.pid))
    import atexit
    if {ignoring}:
        atexit.register(time.sleep, 1000)
    """
    with training_of(tmp_path, textwrap.dedent(source) + REPORT, how={"grace_seconds": 0.1}) as training:
        next(training.epochs())
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    assert not alive(pid)


def test_a_program_in_the_middle_of_an_epoch_ends_with_its_training(tmp_path: Path) -> None:
    source = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("pid", "w").write(str(os.getpid()))
    time.sleep(1000)
    """

    def interrupt() -> None:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the program")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with training_of(tmp_path, source, how={"grace_seconds": 0.1}) as training:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            list(training.epochs())
    thread.join()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_worker_that_is_killed_leaves_no_program(tmp_path: Path) -> None:
    write_programs(tmp_path)
    (tmp_path / "main.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(1000)"
    )
    code = (
        "from pathlib import Path\n"
        "from tests.trainers.programs.test_training import request_in, ProgramTraining, ProgramSettings\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "list(ProgramTraining(ProgramSettings(script='main.py', grace_seconds=0.1), request_in(folder)).epochs())"
    )
    scratch = Path(tempfile.mkdtemp(dir="/tmp"))
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with running([sys.executable, "-c", code], cwd=Path(__file__).parents[3], env=environment) as worker:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), process=worker)
        worker.kill()
        worker.wait()
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())), "the end of the program")
    wait_until(lambda: not list(scratch.iterdir()), "the end of its folder")
    scratch.rmdir()


# Its state

STEPS = """
import os, random, signal
value = {"x": random.random(), "steps": 0}
def die(where):
    if os.path.exists(where):
        os.remove(where)
        os.kill(os.getpid(), signal.SIGKILL)
class Model:
    def state_dict(self):
        die("saving")
        return dict(value)
    def load_state_dict(self, state):
        value.update(state)
die("starting")
for epoch in trial.epochs(6, model=Model()):
    die("training")
    value["x"] += random.random() - 0.6
    value["steps"] += 1
    trial.report(val_loss=abs(value["x"]), steps=value["steps"])
    die("reported")
"""


@pytest.mark.parametrize("epoch", [0, 1, 3, 5])
@pytest.mark.parametrize("where", ["starting", "training", "saving", "reported"])
def test_killed_at_any_moment_it_loses_no_epoch_and_repeats_none(
    tmp_path: Path, where: str, epoch: int
) -> None:
    straight = train(tmp_path, STEPS, max_epochs=6)
    results = []
    with training_of(tmp_path, STEPS, max_epochs=6) as training:
        for result in training.epochs():
            if result.epoch == epoch:
                (tmp_path / where).touch()
                training.save(io.BytesIO())
            results.append(result)
            if epoch == 0 == len(results) - 1:
                (tmp_path / where).touch()
    assert [(r.epoch, r.metrics) for r in results] == [(r.epoch, r.metrics) for r in straight]


@pytest.mark.slow
def test_killed_at_random_moments_from_outside_the_curve_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.trainers.programs.training.STARTS", 100)
    source = STEPS.replace("epochs(6", "epochs(40").replace(
        "random, signal\n", "random, signal\nopen('pid', 'w').write(str(os.getpid()))\n"
    )
    straight = train(tmp_path, source, max_epochs=40)
    ended = threading.Event()

    def kill() -> None:
        moments = random.Random(5)
        for _ in range(20):
            if ended.wait(moments.uniform(0, 0.2)):
                return
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text() or 0) or 2**22, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    (tmp_path / "pid").write_text("")
    with training_of(tmp_path, source, max_epochs=40) as training:
        killer.start()
        results = []
        for result in training.epochs():
            results.append(result)
            training.save(io.BytesIO())
        ended.set()
    killer.join()
    assert [(r.epoch, r.metrics) for r in results] == [(r.epoch, r.metrics) for r in straight]


def test_functional_code_restores_the_state_of_its_report(tmp_path: Path) -> None:
    source = """
    import random
    x, history = trial.restore((1.0, []))
    for epoch in trial.epochs(4):
        x, history = x * random.random(), [*history, epoch]
        trial.report(val_loss=x, seen=len(history), state=(x, history))
    """
    straight = train(tmp_path, source)
    with training_of(tmp_path, source) as training:
        results = training.epochs()
        next(results), next(results)
        training.save(file := io.BytesIO())
    file.seek(0)
    with training_of(tmp_path, source) as resumed:
        resumed.load(file)
        rest = list(resumed.epochs())
    assert [r.metrics for r in rest] == [r.metrics for r in straight[2:]]
    assert rest[-1].metrics["seen"] == 4


def test_a_program_without_a_state_says_so(tmp_path: Path) -> None:
    with training_of(tmp_path, REPORT) as training:
        next(training.epochs())
        assert not training.save(io.BytesIO())


def test_a_state_that_cannot_be_saved_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    source = "kept = {'f': lambda: 0}\nfor e in trial.epochs(4, keep=kept): trial.report(val_loss=1)"
    assert "the state cannot be saved: " in failure(tmp_path, source)


def test_other_objects_than_those_saved_are_refused(tmp_path: Path) -> None:
    source = "import random\nr = random.Random(1)\nfor e in trial.epochs(4, NAME=r): trial.report(val_loss=r.random())"
    with training_of(tmp_path, source.replace("NAME", "rows")) as training:
        next(training.epochs())
        training.save(file := io.BytesIO())
    file.seek(0)
    with training_of(tmp_path, source.replace("NAME", "points")) as other:
        other.load(file)
        with pytest.raises(
            ProgramError, match=r"given \['points'\], and the state was saved with \['rows'\]"
        ):
            list(other.epochs())


@pytest.mark.slow
def test_a_loop_of_pytorch_continues_bit_for_bit(tmp_path: Path) -> None:
    source = """
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    x = torch.randn(60, 3)
    rows = TensorDataset(x, x @ torch.tensor([[1.0], [2.0], [3.0]]))
    loader = DataLoader(rows, batch_size=8, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.get("lr", 0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for epoch in trial.epochs(4, model=model, optimizer=optimizer, scheduler=scheduler):
        for inputs, targets in loader:
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        trial.report(val_loss=loss)
    """
    straight = train(tmp_path, source, configuration={"lr": 0.05})
    with training_of(tmp_path, source, configuration={"lr": 0.05}) as training:
        results = training.epochs()
        next(results), next(results)
        training.save(file := io.BytesIO())
    file.seek(0)
    with training_of(tmp_path, source, configuration={"lr": 0.05}) as resumed:
        resumed.load(file)
        rest = list(resumed.epochs())
    assert [r.metrics for r in rest] == [r.metrics for r in straight[2:]]


def test_processes_that_it_starts_read_parameters_and_do_not_report(tmp_path: Path) -> None:
    source = """
    import subprocess, sys
    lr = trial.get("lr")
    if "child" in sys.argv:
        try:
            trial.report(val_loss=lr)
        except RuntimeError:
            sys.exit(int(lr))
    for epoch in trial.epochs(4):
        code = subprocess.run([sys.executable, "main.py", "child"]).returncode
        trial.report(val_loss=1, code=code)
    """
    results = train(tmp_path, source, configuration={"lr": 7})
    assert [result.metrics for result in results] == [{"val_loss": 1, "code": 7}] * 4


# The test


def test_the_stage_test_restores_the_best_epoch_and_reaches_the_test_once(tmp_path: Path) -> None:
    source = """
    kept = {"x": 0}
    for epoch in trial.epochs(4, keep=kept):
        kept["x"] = epoch
        trial.report(val_loss=abs(epoch - 1))
    if trial.stage == "test":
        trial.report(test_loss=kept["x"])
        trial.report(accuracy=0.5)
    open("tested", "a").write("x")
    """
    with training_of(tmp_path, source) as training:
        assert len(list(training.epochs())) == 4
        training.save(file := io.BytesIO())
    assert not (tmp_path / "tested").exists()
    kind = ProgramKind(program=ProgramSettings(script="main.py"), length=LengthSettings(epochs=4))
    file.seek(0)
    with kind.test(request_in(tmp_path), file) as evaluate:
        assert not (tmp_path / "tested").exists()
        assert evaluate().metrics == {"loss": 1, "accuracy": 0.5}
    assert (tmp_path / "tested").read_text() == "x"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("pass", "reported nothing in the stage test"),
        ("raise SystemExit(4)", "ended with exit code 4 in its test"),
    ],
)
def test_a_test_that_fails_says_why(tmp_path: Path, after: str, message: str) -> None:
    source = f"kept = {{}}\nfor e in trial.epochs(4, keep=kept): trial.report(val_loss=1)\n{after}"
    with training_of(tmp_path, source) as training:
        list(training.epochs())
        training.save(file := io.BytesIO())
    kind = ProgramKind(program=ProgramSettings(script="main.py"), length=LengthSettings(epochs=4))
    file.seek(0)
    with kind.test(request_in(tmp_path), file) as evaluate, pytest.raises(ProgramError, match=message):
        evaluate()


def test_rows_of_the_test_are_not_given_to_a_trial(tmp_path: Path) -> None:
    source = """
    train, validation = trial.split(range(20), validation=0.2, test=5)
    assert (len(train), len(validation), set(train) & set(validation)) == (11, 4, set())
    trial.test_rows()
    """
    assert "RuntimeError: trial.test_rows: the test rows are sealed" in failure(tmp_path, source)


# Outside of tune-jobs


def test_the_same_script_is_a_plain_one_outside(tmp_path: Path) -> None:
    write_programs(tmp_path)
    (tmp_path / "line.py").write_text(LINE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    code = "import runpy; space = runpy.run_path('main.py', run_name='__main__'); print(space['epoch'], space['rate'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 0.05\n", "")


def test_the_module_of_programs_imports_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from tune_jobs import trial\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(new - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'tune_jobs'}\n"
