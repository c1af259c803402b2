"""The code that runs in a worker process: one trial, and its reports to the driver."""
