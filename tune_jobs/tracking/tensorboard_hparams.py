"""TensorBoard's HParams tab: its columns, from the search space, and the row of each trial."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Value  # type: ignore[import-untyped]
from tensorboardX.proto.api_pb2 import (
    DataType,
    Experiment,
    HParamInfo,
    Interval,
    MetricInfo,
    MetricName,
    Status,
)
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

from tune_jobs.job.job import Job
from tune_jobs.search_spaces import Choice, Domain

_PLUGIN: Final = "hparams"


def experiment(job: Job) -> Summary:
    """Return the columns: a parameter each, with its domain, then the metrics, the best value of the selection's first.

    They are those of the whole space. Without them, TensorBoard would take the columns of one trial for those of
    all, although a parameter that depends on another one is not in every trial.
    """
    columns = [_column(name, parameter.domain) for name, parameter in job.search.space.parameters.items()]
    best = MetricInfo(
        name=MetricName(tag=f"best/{job.selection.metric}"), display_name=f"best {job.selection.metric}"
    )
    measured = job.facts.metrics
    others = [job.selection.metric] if measured is None else [metric.name for metric in measured]
    metrics = [best, *(MetricInfo(name=MetricName(tag=name), display_name=f"last {name}") for name in others)]
    content = Experiment(description=f"job {job.name}", hparam_infos=columns, metric_infos=metrics)
    return _summary("experiment", HParamsPluginData(experiment=content))


def session_start(job: Job, configuration: Mapping[str, Any], time: float) -> Summary:
    """Return the row of a trial that began at `time`, in seconds since the epoch."""
    start = SessionStartInfo(start_time_secs=time)
    parameters = job.search.space.parameters
    for name, value in configuration.items():
        kind = _kind(parameters[name].domain) if name in parameters else DataType.DATA_TYPE_STRING
        start.hparams[name].CopyFrom(_value(value, kind))
    return _summary("session_start_info", HParamsPluginData(session_start_info=start))


def session_end(*, succeeded: bool, time: float) -> Summary:
    """Return the end of a trial's row, at `time`, in seconds since the epoch."""
    status = Status.STATUS_SUCCESS if succeeded else Status.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time)
    return _summary("session_end_info", HParamsPluginData(session_end_info=end))


def _column(name: str, domain: Domain) -> HParamInfo:
    kind = _kind(domain)
    if isinstance(domain, Choice):
        values = ListValue(values=[_value(value, kind) for value in domain.values])
        return HParamInfo(name=name, type=kind, domain_discrete=values)
    return HParamInfo(
        name=name, type=kind, domain_interval=Interval(min_value=domain.low, max_value=domain.high)
    )


def _kind(domain: Domain) -> "DataType.ValueType":
    """Return the type that TensorBoard shows values of `domain` as: lists, null and mixed types are text."""
    if not isinstance(domain, Choice):
        return DataType.DATA_TYPE_FLOAT64
    types = {type(value) for value in domain.values}
    if types == {bool}:
        return DataType.DATA_TYPE_BOOL
    return DataType.DATA_TYPE_FLOAT64 if types <= {int, float} else DataType.DATA_TYPE_STRING


def _value(value: Any, kind: "DataType.ValueType") -> Value:
    if kind == DataType.DATA_TYPE_BOOL:
        return Value(bool_value=value)
    if kind == DataType.DATA_TYPE_FLOAT64:
        return Value(number_value=value)
    return Value(string_value=str(value))


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    plugin = SummaryMetadata.PluginData(plugin_name=_PLUGIN, content=content.SerializeToString())
    return Summary(
        value=[Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))]
    )
