"""Solves tiny worlds with HiGHS, by way of scipy.

Reads a world a line from standard input, as JSON, and answers each with a line:
`relaxed` is the optimum with fractions of instances and of jobs; `low` and `high`
bracket the optimum in whole ones, if `whole` is asked for.

The program is written from the rules of the simulated world alone. Times are whole
seconds. Its columns:

    x[job, offering, start]   the job starts then, in a slot of that offering
    x[job, never]             it waits to the end
    z[offering, ready, end]   an instance serves in between, and was launched a boot before
    w[end]                    one of those at the beginning is ended then

and its rows: each job once, each initial instance once, and in no second more jobs in
the slots of an offering than there are slots. That forgets which job is on which
instance, so that no schedule costs less.
"""

import json
import sys

import numpy
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

# Nearly all worlds need fewer.
NODES_MAX = 100


def charged(world, ran):
    increment = world["increment"]
    return max(world["minimum"], -(-ran // increment) * increment)


class Program:
    def __init__(self):
        self.costs = []
        self.entries = ([], [], [])
        self.lows = []
        self.highs = []

    def row(self, low, high):
        self.lows.append(low)
        self.highs.append(high)
        return len(self.lows) - 1

    def column(self, cost, rows):
        for row, value in rows:
            self.entries[0].append(value)
            self.entries[1].append(row)
            self.entries[2].append(len(self.costs))
        self.costs.append(cost)

    def solve(self, whole):
        values, rows, columns = self.entries
        shape = (len(self.lows), len(self.costs))
        matrix = csc_array((values, (rows, columns)), shape=shape, dtype=float)
        found = milp(
            numpy.array(self.costs, dtype=float),
            integrality=numpy.full(len(self.costs), int(whole)),
            bounds=Bounds(0, numpy.inf),
            constraints=LinearConstraint(matrix, self.lows, self.highs),
            # By nodes, not by time: the same answer on a busy machine.
            options={"node_limit": NODES_MAX, "mip_rel_gap": 1e-9},
        )
        if found.x is None:
            raise SystemExit(f"HiGHS found nothing: {found.message}")
        return found


def build(world):
    program = Program()
    length, boot = world["length"], world["boot"]
    offerings = world["offerings"]
    slots = [
        [program.row(-numpy.inf, 0) for _ in range(length)] for _ in offerings
    ]
    for arrival, service, waiting in world["jobs"]:
        once = program.row(1, 1)
        program.column(waiting * (length - arrival), [(once, 1)])
        for place, offering in enumerate(offerings):
            takes = service * 100 // offering["percent"]
            for start in range(arrival, length):
                taken = range(start, min(start + takes, length))
                rows = [(once, 1)] + [(slots[place][at], 1) for at in taken]
                program.column(waiting * (start - arrival), rows)
    for place, offering in enumerate(offerings):
        for ready in range(boot, length):
            for end in range(ready + 1, length + 1):
                cost = offering["price"] * charged(world, boot + end - ready)
                given = range(ready, end)
                rows = [(slots[place][at], -offering["slots"]) for at in given]
                program.column(cost, rows)
    if world["initial"]:
        all_of_them = program.row(world["initial"], world["initial"])
        for end in range(length + 1):
            cost = offerings[0]["price"] * charged(world, end)
            rows = [(slots[0][at], -offerings[0]["slots"]) for at in range(end)]
            program.column(cost, [(all_of_them, 1)] + rows)
    return program


def answer(world):
    program = build(world)
    answers = {"relaxed": program.solve(False).fun}
    if world["whole"]:
        # After so many nodes what it has still brackets the optimum.
        found = program.solve(True)
        answers |= {"low": found.mip_dual_bound, "high": found.fun}
    return answers


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
