"""`python -m tune_jobs` is `tune-jobs`."""

import sys

from tune_jobs.cli import main

sys.exit(main())
