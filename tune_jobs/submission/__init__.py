"""Runs on a remote cluster, through the Jobs server of its Ray.

- `client`: calls the server, with time limits, and explains its failures.
- `package`: what is sent with a job.
- `handover`: what the driver on the cluster receives, and what it answers.
- `progress`: the state of a submission, and how it ended.
- `sending`, `fetching`: bring a run folder back.
"""
