"""A Ray cluster as a run sees it: whether it answers, what its nodes have, and which trials wait for a place.

- `reachability`: whether a Ray answers at an address and accepts this process.
- `capacity`: how many trials the nodes have room for, now and at most.
- `node_checks`: whether every node has the same software and sees the run's storage.
- `storage_check`: a file that one node writes and all others find.
- `joining_nodes`: the same checks of machines that join later.
- `ray_internals`: the private parts of Ray that these modules rest on.
- `placement`: trials that find no node.
"""
