"""Tables of made-up learning curves for the tests of the benchmarks."""

from tests.simulation.made_up_tables import make_table

__all__ = ["make_table"]
