"""The calls by which a program of one's own becomes a trial; outside of tune-jobs each does the plain thing.

    from tune_jobs import trial

    lr = trial.get("lr", 0.001)
    for epoch in trial.epochs(500, model=model, optimizer=optimizer):
        ...
        trial.report(val_loss=val_loss)

Importing it imports the standard library alone, so it also works with an interpreter that lacks the packages of
tune-jobs. Inside of a trial, `TUNE_JOBS_TRIAL` names a folder with the task in `trial.json` and a socket. The program
speaks on the socket in lines of JSON, and trains an epoch only if it is asked to.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, NoReturn

VARIABLE = "TUNE_JOBS_TRIAL"
"""The environment variable that names the folder of a trial."""
OWNER = "TUNE_JOBS_TRIAL_PROCESS"
"""The environment variable with the id of the process of a trial; those that it starts only read parameters."""
TRAIN, TEST = "train", "test"
"""The stages of a program under tune-jobs; outside the stage is None."""
_RESERVED = ("epoch", "seconds", "trial_id", "diverged")
"""Names that no metric can have: other columns of the table of epochs."""
_NAMED = 3
"""References to an argument that the caller holds under a name: its own, that of the call, and that of the count."""
_MISSING: "Any" = object()


def get(name: str, default: "Any" = _MISSING) -> "Any":
    """Return the value of a parameter; `default` outside of tune-jobs, and if the trial has no such parameter.

    Raises:
        LookupError: There is neither a value nor a default.
    """
    if _session is None:
        if default is _MISSING:
            raise LookupError(f"trial.get({name!r}): give a default, which is the value outside of tune-jobs")
        return default
    return _session.get(name, default)


def epochs(number: int, /, *, keep: "Any" = None, **objects: "Any") -> "Iterator[int] | range":
    """Return the epochs to train, from 0, as `range(number)` does.

    In a trial the epochs begin after the last one that was saved. A trial ends with its last epoch, or when the loop
    is left by `break`: code after the loop runs only outside of tune-jobs and in the stage `test`.

    Args:
        number: The number of epochs. In a trial `length.epochs` of the job is the last one, and may be lower.
        keep: A dict, a list or an object whose values are saved, and put back into it.
        objects: Objects to save and restore, by any names: all with `state_dict` and `load_state_dict`, such as
            models, optimizers and schedulers, and generators of random numbers. None is left out.

    Raises:
        TypeError: An object cannot be saved.
    """
    if not (keep is None or isinstance(keep, dict | list | set) or hasattr(keep, "__dict__")):
        raise TypeError(
            f"trial.epochs: given keep={keep!r:.80}; valid: a dict, a list or an object with attributes"
        )
    if sys.version_info < (3, 14) and sys.getrefcount(keep) < _NAMED:
        raise TypeError(
            "trial.epochs: keep is put together in the call, so the program would never see restored values; give "
            "it a name before: kept = {'best': best}; then read and write kept['best']"
        )
    if _session is None:
        return range(number)
    return _session.epochs(number, objects, keep)


def report(*, state: "Any" = None, **metrics: "Any") -> None:
    """Report numbers of an epoch by name; in the stage `test`, the results of the test.

    Several calls in one epoch add up. Outside of tune-jobs nothing happens.

    Args:
        state: For code without objects that can be restored: all that the next epoch needs. See `restore`.
        metrics: Numbers, also of NumPy and PyTorch.

    Raises:
        TypeError: A value is no number.
        ValueError: A name is reserved.
    """
    if _session is not None:
        _session.report(metrics, state)


def restore(state: "Any") -> "Any":
    """Return the saved `state` of the last report; `state` as it is outside of tune-jobs and at the first epoch."""
    return state if _session is None else _session.restore(state)


def reject(reason: str) -> "NoReturn":
    """Say that the configuration cannot be trained, such as a hidden size that the number of heads does not divide.

    Raises:
        ValueError: Outside of tune-jobs.
    """
    if _session is None:
        raise ValueError(reason)
    _session.reject(reason)


def path(name: str) -> "Path":
    """Return the path of a file that belongs to this trial alone; `name` as it is outside of tune-jobs."""
    from pathlib import Path  # noqa: PLC0415 (few programs need it)

    if _session is None:
        return Path(name)
    file = Path(_session.files, name)
    if Path(_session.files) not in file.parents or ".." in file.parts:
        raise ValueError(f"trial.path: given {name!r}; valid: a relative path without ..")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def split(dataset: "Any", *, validation: float, test: float = 0.0) -> tuple[list[int], list[int]]:
    """Divide the rows of a dataset at random; return the numbers of the training and the validation rows.

    The seed of the job decides, so all trials have the same rows. `test_rows` has the others.

    Args:
        dataset: Anything with a length, or the number of rows.
        validation: The share of the validation rows, or their number if it is 1 or more.
        test: The same of the test rows.

    Raises:
        ValueError: No training row is left.
    """
    global _test_rows  # noqa: PLW0603 (`test_rows` returns it)
    from random import Random  # noqa: PLC0415 (few programs need it)

    rows = dataset if isinstance(dataset, int) else len(dataset)
    numbers = [int(share if share >= 1 else share * rows + 0.5) for share in (test, validation)]
    if min(numbers) < 0 or sum(numbers) >= rows:
        raise ValueError(
            f"trial.split: given validation={validation} and test={test} of {rows} rows; leave rows for training"
        )
    order = list(range(rows))
    Random(0 if _session is None else _session.seed).shuffle(order)  # noqa: S311 (no secret)
    first, second = numbers[0], sum(numbers)
    _test_rows = sorted(order[:first])
    return sorted(order[second:]), sorted(order[first:second])


def test_rows() -> list[int]:
    """Return the numbers of the test rows of the last `split`; a trial does not get them.

    Raises:
        RuntimeError: In a trial, before the stage `test`.
    """
    if stage_now() == TRAIN:
        raise RuntimeError("trial.test_rows: the test rows are sealed until `tune-jobs test`")
    return list(_test_rows)


def stage_now() -> str | None:
    """Return `train` in a trial, `test` for the winner in `tune-jobs test`, and None outside; `trial.stage` is it."""
    return None if _session is None else _session.stage


def __getattr__(name: str) -> "Any":
    if name == "stage":
        return stage_now()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Session:
    """This process as the program of a trial."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, "trial.json"), encoding="utf-8") as file:
            task = json.load(file)
        self.folder = folder
        self.stage: str = task["stage"]
        self.seed: int = task["seed"]
        self.files: str = task["files"]
        self._parameters: dict[str, Any] = task["parameters"]
        self._length: int = task["epochs"]
        self._by_arguments = task["style"] is not None
        self._read: set[str] = set()
        self._saved: dict[str, Any] | None = None
        self._first: int = task["first"]
        """Epochs before those that this process trains, if it restores the state."""
        self._state: Any = None
        self._objects: Mapping[str, Any] = {}
        self._keep: Any = None
        self._metrics: dict[str, Any] = {}
        self._done = 0
        self._in_loop = self._looped = False
        self._begun = _now()
        self._line: Any = None
        self._owner = int(os.environ.get(OWNER, os.getpid()))

    # Parameters

    @property
    def names(self) -> list[str]:
        return list(self._parameters)

    def get(self, name: str, default: "Any") -> "Any":
        self._read.add(name)
        value = self._parameters.get(name, default)
        if value is _MISSING:
            known = ", ".join(self._parameters) or "none"
            raise LookupError(f"trial.get({name!r}): the trial has no such parameter; it has {known}")
        return value

    # Epochs

    def epochs(self, number: int, objects: "Mapping[str, Any]", keep: "Any") -> Iterator[int]:
        self._refuse_others("epochs")
        if self._looped:
            raise RuntimeError("trial.epochs: it was called before; a program has one loop over its epochs")
        if number < self._length:
            self._fail(
                f"trial.epochs({number}) is shorter than length.epochs, which is {self._length}; set length.epochs "
                f"to {number} or less"
            )
        self._objects = {name: each for name, each in objects.items() if each is not None}
        self._keep, self._looped = keep, True
        for name, each in self._objects.items():
            if _state_of(each) is None:
                raise TypeError(
                    f"trial.epochs: {name} is of type {type(each).__name__}, which has no state_dict and "
                    "load_state_dict; give plain values by keep={...} held under a name"
                )
        self._load()
        return self._test() if self.stage == TEST else self._train()

    def _load(self) -> None:
        saved = self._read_saved()
        if saved is None:
            return
        if set(saved["objects"]) != set(self._objects):
            was, now = sorted(saved["objects"]), sorted(self._objects)
            self._fail(
                f"trial.epochs: given {now}, and the state was saved with {was}; give the same objects"
            )
        if (saved["keep"] is None) != (self._keep is None):
            self._fail("trial.epochs: give keep= as when the state was saved")
        for name, state in saved["objects"].items():
            _put_state(self._objects[name], state)
        if saved["keep"] is not None:
            _put_values(self._keep, saved["keep"])
        self._state = saved["state"]
        self._done = self._first
        put_generators(saved["generators"])

    def _train(self) -> Iterator[int]:
        self._in_loop = True
        for epoch in range(self._done, self._length):
            self._begun = _now()
            try:
                yield epoch
            except GeneratorExit:
                if _is_raising():
                    self._in_loop = False
                    raise
                self._finish(left=True)
            self._finish()

    def _test(self) -> Iterator[int]:
        self._say({"type": "ready"})
        self._answer()
        return iter(())

    def _finish(self, *, left: bool = False) -> None:
        """Send the epoch, and do what is asked until the next one is; the process ends here if none is."""
        metrics, self._metrics = self._metrics, {}
        self._done += 1
        self._say(
            {
                "type": "epoch",
                "epoch": self._done,
                "metrics": metrics,
                "seconds": _now() - self._begun,
                "left": left,
                "unread": []
                if self._by_arguments
                else [name for name in self._parameters if name not in self._read],
                "read": sorted(self._read),
            }
        )
        self._answer()
        self._begun = _now()

    def report(self, metrics: "Mapping[str, Any]", state: "Any") -> None:
        self._refuse_others("report")
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        if self.stage == TEST:
            self._say({"type": "test", "metrics": numbers})
            return
        self._metrics.update(numbers)
        self._state = self._state if state is None else state
        if not self._in_loop:
            self._finish()

    def _refuse_others(self, call: str) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"trial.{call}: call it in the process of the trial, and not in one that it started"
            )

    def restore(self, state: "Any") -> "Any":
        saved = self._read_saved()
        if saved is None or saved["state"] is None:
            return state
        if not self._looped:
            self._done = self._first
            put_generators(saved["generators"])
        return saved["state"]

    def reject(self, reason: str) -> "NoReturn":
        self._say({"type": "rejected", "reason": str(reason)})
        end_process()

    # State

    def _read_saved(self) -> "dict[str, Any] | None":
        if self._saved is None and self._first:
            import pickle  # noqa: PLC0415 (only a trial that continues needs it)

            with open(os.path.join(self.folder, "start"), "rb") as file:
                self._saved = pickle.load(file)  # noqa: S301 (what this program saved)
        return self._saved

    def _save(self, name: str) -> None:
        """Write the whole state to a new file of the trial's folder, and say so."""
        import pickle  # noqa: PLC0415 (only a trial needs it)

        if not self._objects and self._keep is None and self._state is None:
            self._say({"type": "saved", "file": None})
            return
        whole = {
            "objects": {name: _state_of(each) for name, each in self._objects.items()},
            "keep": None if self._keep is None else _values_of(self._keep),
            "state": self._state,
            "generators": generators(),
        }
        file = os.path.join(self.folder, name)
        try:
            with open(f"{file}.part", "wb") as part:
                pickle.dump(whole, part, protocol=5)
        except Exception as error:
            self._fail(f"the state cannot be saved: {type(error).__name__}: {error}")
        os.replace(f"{file}.part", file)
        self._say({"type": "saved", "file": name})

    # The other end

    def _answer(self) -> None:
        """Do what is asked, and return when the next epoch is asked for."""
        while True:
            line = self._line.readline()
            asked = json.loads(line) if line else {"do": "end"}
            if asked["do"] == "next":
                return
            if asked["do"] == "end":
                end_process()
            self._save(asked["file"])

    def _say(self, message: "Mapping[str, Any]") -> None:
        if self._line is None:
            import socket  # noqa: PLC0415 (only a trial needs it)

            connection = socket.socket(socket.AF_UNIX)
            connection.connect(os.path.join(self.folder, "socket"))
            self._line = connection.makefile("rwb")
        try:
            self._line.write(json.dumps(message).encode() + b"\n")
            self._line.flush()
        except OSError:  # tune-jobs is gone
            end_process()

    def _fail(self, reason: str) -> "NoReturn":
        self.say_failed(reason, "")
        end_process(1)

    def say_failed(self, reason: str, details: str) -> None:
        """Tell why the program fails."""
        self._say({"type": "failed", "reason": reason, "details": details})


def end_process(code: int = 0) -> "NoReturn":
    """End this process here: its functions for the end are called, and no other code of the program runs."""
    import atexit  # noqa: PLC0415 (few processes end here)

    try:
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # the program may have closed it
                stream.flush()
        os._exit(code)


def _is_raising() -> bool:
    """Return whether the loop over the epochs is left by an error, and not by `break` or `return`.

    These drop the iterator by an instruction of their own, in the frame that has the loop. Iterators between, such
    as those of progress bars, are frames that wait at a `yield`.
    """
    import opcode  # noqa: PLC0415 (only at an early end)

    frame = sys._getframe(2)
    while frame is not None:
        at = frame.f_lasti
        name = opcode.opname[frame.f_code.co_code[at]] if 0 <= at < len(frame.f_code.co_code) else ""
        if name not in {"", "RESUME", "YIELD_VALUE", "CACHE"}:
            return name not in {
                "POP_TOP",
                "POP_ITER",
                "END_FOR",
                "DELETE_NAME",
                "DELETE_FAST",
                "DELETE_GLOBAL",
            }
        if frame.f_back is None:
            break
        frame = frame.f_back
    return True


def _now() -> float:
    import time  # noqa: PLC0415 (only a trial needs it)

    return time.perf_counter()


def _number(name: str, value: "Any") -> "float | int":
    if name in _RESERVED:
        raise ValueError(f"trial.report: {name!r} is a column of every table of epochs; give it another name")
    plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) != 0 else value
    if not isinstance(plain, int | float):
        raise TypeError(
            f"trial.report: given {name}={value!r:.80}; valid: a number, which is NaN if there is none"
        )
    return plain


_WAYS = (("state_dict", "load_state_dict"), ("get_state", "set_state"), ("getstate", "setstate"))
"""Pairs of methods that return and take the state of an object."""


def _state_of(each: "Any") -> "Any":
    """Return the state of an object; None if it has none."""
    for get_state, put_state in _WAYS:
        if callable(getattr(each, get_state, None)) and callable(getattr(each, put_state, None)):
            return getattr(each, get_state)()
    return each.bit_generator.state if hasattr(each, "bit_generator") else None


def _put_state(each: "Any", state: "Any") -> None:
    for get_state, put_state in _WAYS:
        if callable(getattr(each, get_state, None)) and callable(getattr(each, put_state, None)):
            getattr(each, put_state)(state)
            return
    each.bit_generator.state = state


def _values_of(keep: "Any") -> "Any":
    return keep if isinstance(keep, dict | list | set) else vars(keep)


def _put_values(keep: "Any", values: "Any") -> None:
    """Put saved values into the object that the program holds."""
    inside = _values_of(keep)
    inside.clear()
    if isinstance(inside, list):
        inside.extend(values)
    else:
        inside.update(values)


def generators() -> "dict[str, Any]":
    """Return the states of the global generators of Python, NumPy and PyTorch, if they are imported."""
    states: dict[str, Any] = {}
    if (python := sys.modules.get("random")) is not None and hasattr(python, "getstate"):
        states["python"] = python.getstate()
    if (numpy := sys.modules.get("numpy.random")) is not None and hasattr(numpy, "get_state"):
        states["numpy"] = numpy.get_state()
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "get_rng_state"):
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def put_generators(states: "Mapping[str, Any]") -> None:
    """Bring the global generators to the states that `generators` returned."""
    from importlib import import_module  # noqa: PLC0415 (only a trial that continues needs it)

    if "python" in states:
        import_module("random").setstate(states["python"])
    if "numpy" in states:
        import_module("numpy.random").set_state(states["numpy"])
    if "torch" in states:
        import_module("torch").set_rng_state(states["torch"])
    if "cuda" in states:
        import_module("torch").cuda.set_rng_state_all(states["cuda"])


_test_rows: list[int] = []
_session = _Session(os.environ[VARIABLE]) if VARIABLE in os.environ else None
