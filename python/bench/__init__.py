"""What a protected call costs over a bare one, beside the peers, in one process and one run.

    cd python && python -m bench                 # the tables, on standard output
    make bench-python                            # the same, into COMPARE.md

How it is timed: one process on one core, the collector off and run between samples, every row a sample of a few
milliseconds in every round, the rows of a round in a new random order, and of each row the median over all rounds. The
cost is that median less the median of the bare call of the same shape, so that what the interpreter takes anyway
counts for nobody. After its last round each row has to show that it timed something alive: its breaker still admits,
and trips when the function begins to fail; its policy tries again; its balancer gives everybody a turn.

What is never done: a peer with its features switched off, or a row left out because it is lost.
"""
