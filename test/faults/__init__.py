"""What goes wrong on a vehicle, as rows: each is injected, named by the node, and over when its cause is over.

`traffic.py` makes the messages of a drive, `fault.py` says what a row is, `on_the_wire.py`, `at_work.py` and
`processes.py` have the rows.  `live.py` lets them happen to a node over DDS, `offline.py` to a bag; `run.py`
(`make test-faults`) lets all of them happen and writes OUT/faults.json, `test_faults.py` is the short form.
"""
