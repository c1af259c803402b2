"""The user's transform of encoded rows, whose arguments a configuration may set: `data.window`, for example."""

from dataclasses import replace
from typing import Any

import numpy as np

from tune_jobs.trainers.data import DataInfo, Rows, TrainingData
from tune_jobs.trainers.data.raw import Array
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.own_code import check_arguments
from tune_jobs.trainers.pytorch.plan import TrainingPlan
from tune_jobs.trainers.references import calling, load_reference


def transformed_data(plan: TrainingPlan, data: TrainingData) -> TrainingData:
    """Return the data as the model of the plan gets them.

    Raises:
        ModelError: The transform fails, or does not transform each row by itself.
        ReferenceNotFound: It cannot be loaded.
    """
    if plan.transform is None:
        return data
    train = transformed_rows(plan, data.train)
    first = _transform(plan, data.train.x[:1])
    if not np.allclose(first, train.x[:1], rtol=1e-4, atol=1e-6):
        raise ModelError(
            f"data.transform {plan.transform} gives the first row another value alone than among the others; it must "
            "transform each row by itself, and always in the same way"
        )
    info = replace(data.info, input_shape=train.x.shape[1:])
    return replace(data, train=train, validation=transformed_rows(plan, data.validation), info=info)


def transformed_info(plan: TrainingPlan, info: DataInfo) -> DataInfo:
    """Return the facts about the transformed rows, found without rows; errors are those of `transformed_data`."""
    if plan.transform is None:
        return info
    one = np.zeros((1, *info.input_shape), np.float32)
    return replace(info, input_shape=_transform(plan, one).shape[1:])


def transformed_rows(plan: TrainingPlan, rows: Rows) -> Rows:
    """Return the rows as the model of the plan gets them; errors are those of `transformed_data`."""
    return rows if plan.transform is None else replace(rows, x=_transform(plan, rows.x))


def _transform(plan: TrainingPlan, x: Array) -> Array:
    name, arguments = plan.transform or "", plan.transform_arguments
    function = load_reference(name)
    check_arguments(f"data.transform {name}", function, arguments, x)
    try:
        with calling(name):
            given: Any = np.asarray(function(x.copy(), **arguments))
    except (Exception, SystemExit) as error:  # the user's code may do anything
        raise ModelError(
            f"data.transform {name} failed with {dict(arguments)}: {type(error).__name__}: {error}"
        ) from error
    if given.dtype.kind not in "biuf" or given.ndim < 2 or len(given) != len(x) or 0 in given.shape:
        raise ModelError(
            f"data.transform {name} turned rows of shape {list(x.shape)} into {given.dtype} of shape "
            f"{list(given.shape)}; it must return numbers [{len(x)}, …], a row for each row"
        )
    return np.ascontiguousarray(given, np.float32)
