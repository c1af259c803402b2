"""`import-sweep` prints a job file, or says what is wrong with the sweep."""

import textwrap
from pathlib import Path

from tests.tune_jobs.cli.conftest import Call


def test_a_sweep_is_printed_as_a_job_file_to_the_letter(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        textwrap.dedent(
            """\
            method: random
            name: mine
            parameters:
              lr: {distribution: log_uniform_values, min: 1.0e-4, max: 0.1}
              model.act: {values: ["[red]", ":bug:", "[/]"]}
            """
        )
    )
    code, output, errors = call("import-sweep", "sweep.yaml")
    assert (code, errors) == (0, "")
    assert output[0] == "name: mine"
    assert '      - "[red]"' in output
    assert '      - ":bug:"' in output
    assert '      - "[/]"' in output


def test_a_file_that_is_no_sweep_ends_with_2(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("method: guess\nparameters: {lr: {min: 0}}\n")
    code, output, errors = call("import-sweep", "sweep.yaml")
    assert (code, output) == (2, [])
    assert errors.startswith("tune-jobs: method: guess is not a method; valid are bayes, random, grid")
