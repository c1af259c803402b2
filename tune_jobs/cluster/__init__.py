"""A Ray cluster as a run sees it: who answers there, what its nodes have, and who waits for a place.

- `knock`: is there a Ray at an address, and would it let us in?
- `capacity`: how many trials the nodes have room for, now and at most.
- `survey`: does every node have the same software, and see the run's storage?
- `probe`: a file that one node writes and all others find.
- `newcomers`: the same questions to machines that join later.
- `placement`: trials that no node takes up.
"""
