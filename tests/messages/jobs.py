"""A small valid job on a small table, to be made wrong."""

from pathlib import Path

JOB = """\
name: small
data: {source: rows.csv, target: y}
model: {name: mlp, arguments: {hidden: [4]}}
training: {max_epochs: 9, loss: mse, metrics: [mae]}
search:
  space:
    lr: {low: 1e-3, high: 0.5, log: true}
    batch_size: {values: [8, full]}
    optimizer: {values: [sgd, adam]}
    momentum: {low: 0.0, high: 0.9, when: {optimizer: sgd}}
  trials: 6
"""


def write_job(folder: Path, text: str = JOB) -> None:
    """Write `job.yaml`, and a table of 50 rows that fits it."""
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    rows = [f"{n % 7},{n * n % 11},{'abcd'[n % 4]},{n}.5" for n in range(50)]
    write_table(folder / "rows.csv", "a,b,color,y", rows)


def write_table(path: Path, head: str, rows: list[str]) -> None:
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
