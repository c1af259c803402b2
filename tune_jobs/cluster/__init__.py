"""A Ray cluster as a run sees it: who answers there, what its nodes have, and who waits for a place.

- `reachability`: is there a Ray at an address, and would it let us in?
- `capacity`: how many trials the nodes have room for, now and at most.
- `node_checks`: does every node have the same software, and see the run's storage?
- `storage_check`: a file that one node writes and all others find.
- `joining_nodes`: the same questions to machines that join later.
- `ray_internals`: the private parts of Ray that these rest on.
- `placement`: trials that no node takes up.
"""
