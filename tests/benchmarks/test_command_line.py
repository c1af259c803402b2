from argparse import ArgumentTypeError

import pytest

from benchmarks.command_line import at_least, positive


def test_a_number_that_is_large_enough_is_read() -> None:
    assert (at_least(2)("2"), positive("1")) == (2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1", "1 is less than 2"), ("few", "'few' is no whole number"), ("2.5", "'2.5' is no")],
)
def test_any_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        at_least(2)(text)
