"""What `make bench` runs: this operator beside the upstream one and beside code written by hand, on the same cluster.

cases       what the pods do
marks       what a task notes of itself: seconds, memory, imported modules
by_hand     operators that do the same with as little as possible, or a part of it
dags        the DAG file that all of them are tasks of
subject     a process that runs tasks when told to: under `dag.test()`, or each in a process of its own
subjects    starts such processes, and runs tasks in them
clusters    where the pods run, and what was asked of it
chapters    what is measured beside them: credentials
task_log    what a task's log tells: which lines are there, and when each was logged
imports     seconds to import an operator
plan        which runs, in which order
tables      the results as text
targets     what they are held against
"""
