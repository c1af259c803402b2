"""Run the user's script or function as the program of a trial: `python start.py`, with the user's interpreter.

It imports the standard library and `tune_jobs.trial` alone. The script finds what `python script.py` finds: its
folder comes first, it is `__main__`, and it runs in the main thread. Random numbers are seeded before it begins,
because a program that continues must draw the same data as one that was never stopped.
"""

import sys

_OWN = __file__
del sys.path[0]  # the folder of this file
import builtins
import importlib
import importlib.util
import json
import os
import random
import traceback
import types
from contextlib import suppress

os.environ["TUNE_JOBS_TRIAL_PROCESS"] = str(os.getpid())  # `trial` reads it
from tune_jobs import trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any


class SeedOnImport:
    """Seeds NumPy and PyTorch when the program imports them."""

    def __init__(self, seed: int) -> None:
        self.seeds: dict[str, Callable[[Any], object]] = {
            "numpy.random": lambda module: module.seed(seed),
            "torch": lambda module: module.manual_seed(seed),
        }

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return the description of a module, which is seeded once it is imported."""
        seed = self.seeds.pop(name, None)
        if seed is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_seed(module: "ModuleType") -> None:
            execute(module)
            with suppress(AttributeError):  # the user's own module of this name
                seed(module)

        loader.exec_module = execute_and_seed
        return spec


def run_script(script: str, arguments: "Sequence[str]") -> None:
    """Run a script as `python script.py` does."""
    sys.path.insert(0, os.path.dirname(script))
    sys.argv[:] = [script, *arguments]
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec")
    exec(code, main.__dict__)  # noqa: S102 (the user's program)


def run_function(reference: str, folder: str, parameters: "Mapping[str, Any]") -> None:
    """Call the user's function with the parameters that it names, and with `trial` if it names that."""
    import inspect  # noqa: PLC0415 (a script does not need it)

    sys.path.insert(0, folder)
    module, _, name = reference.partition(":")
    sys.argv[:] = [module]
    function = getattr(importlib.import_module(module), name)
    takes = inspect.signature(function).parameters
    whole = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    values = {key: trial.get(key) for key in parameters if whole or key in takes}
    if "trial" in takes:
        values["trial"] = trial
    function(**values)


def check_parsed(parameters: "Mapping[str, Any]") -> None:
    """Let argparse compare what it reads with what was sent: `type=bool` reads every text as true."""
    from argparse import ArgumentParser  # noqa: PLC0415 (few programs need it)

    parse = ArgumentParser.parse_known_args

    def parse_and_compare(self: "Any", args: "Any" = None, namespace: "Any" = None) -> "Any":
        parsed, rest = parse(self, args, namespace)
        for name, value in parameters.items() if args is None else ():
            read = getattr(parsed, name.replace("-", "_"), value)
            if read != value or isinstance(read, bool) is not isinstance(value, bool):
                raise ValueError(
                    f"the parameter {name} is {value!r}, and argparse read {read!r}; mend its add_argument, or read it "
                    "with trial.get"
                )
        return parsed, rest

    ArgumentParser.parse_known_args = parse_and_compare  # type: ignore[method-assign]


def describe(error: BaseException, trace: "TracebackType | None") -> tuple[str, str]:
    """Return an error in one line, and the traceback of the user's code."""
    while trace is not None and trace.tb_frame.f_code.co_filename in {_OWN, trial.__file__}:
        trace = trace.tb_next
    details = "".join(traceback.format_exception(type(error), error, trace))
    return "".join(traceback.format_exception_only(type(error), error)).strip(), details


def main() -> None:
    """Run the program of the trial in this process, and tell how it failed if it does."""
    with open(os.path.join(os.environ[trial.VARIABLE], "trial.json"), encoding="utf-8") as file:
        task = json.load(file)
    random.seed(task["seed"])
    sys.meta_path.insert(0, SeedOnImport(task["seed"]))
    if task["style"] == "argparse":
        check_parsed(task["parameters"])
    try:
        if task["script"]:
            run_script(task["script"], task["arguments"])
        else:
            run_function(task["function"], task["folder"], task["parameters"])
    except SystemExit:
        raise
    except BaseException as error:
        reason, details = describe(error, error.__traceback__)
        sys.stderr.write(details)
        session = trial._session
        if session is not None:
            session.say_failed(reason, details)
        trial.end_process(1)


if __name__ == "__main__":
    main()
