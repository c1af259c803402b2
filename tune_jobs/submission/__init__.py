"""Runs on a cluster that is somewhere else, through the Jobs server of its Ray.

- `commands`: those of the command line.
- `client`: the server, asked with limits of time, its failures in plain words.
- `package`: what is sent there with a job.
- `handover`: what the driver on the cluster is told, and says.
- `progress`: how a submission stands, and how it ended.
- `fetching`, `sending`: a run folder comes back.
"""
