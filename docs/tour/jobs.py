#!/usr/bin/env python3
"""A queue of jobs in SQLite, and a worker for it.

    jobs.py add 24    put 24 jobs into the queue
    jobs.py work      work on them, as a worker of windlass
    jobs.py show      how far they are

The worker is the smallest that keeps to what docs/operating.md asks of one.
"""

import os
import sqlite3
import sys
import time

JOB_SECS = 0.5
LOOK_AGAIN_SECS = 0.1


def open_queue():
    # Every statement is its own transaction but for those between BEGIN and COMMIT.
    queue = sqlite3.connect("jobs.db", timeout=10, isolation_level=None)
    queue.execute("PRAGMA journal_mode = WAL")
    queue.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, state TEXT, worker TEXT)"
    )
    return queue


def add(queue, count):
    queue.executemany("INSERT INTO jobs (state) VALUES (?)", [("waiting",)] * count)


def take(queue, worker):
    """The next job that waits, which is ours from now on; None if there is none."""
    queue.execute("BEGIN IMMEDIATE")
    row = queue.execute("SELECT min(id) FROM jobs WHERE state = 'waiting'").fetchone()
    queue.execute("UPDATE jobs SET state = 'in hand', worker = ? WHERE id = ?", (worker, row[0]))
    queue.execute("COMMIT")
    return row[0]


def say(work):
    with open(os.environ["WINDLASS_WORK"], "w") as file:
        file.write(work)


def work(queue):
    worker = os.environ["WINDLASS_INSTANCE"]
    while True:
        # In this order: say it, look for the fence, and only then take a job.
        say("busy")
        fenced = os.path.exists(os.environ["WINDLASS_FENCE"])
        job = None if fenced else take(queue, worker)
        if job is None:
            say("idle")
            time.sleep(LOOK_AGAIN_SECS)
            continue
        time.sleep(JOB_SECS)
        queue.execute("UPDATE jobs SET state = 'done' WHERE id = ?", (job,))
        print("job", job, "done", flush=True)


def show(queue):
    counts = dict(queue.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    states = ", ".join(f"{counts.get(state, 0)} {state}" for state in ("done", "in hand", "waiting"))
    print(f"{sum(counts.values())} jobs: {states}")


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[0] == "add" and arguments[1].isdigit():
        add(open_queue(), int(arguments[1]))
    elif arguments == ["work"]:
        work(open_queue())
    elif arguments == ["show"]:
        show(open_queue())
    else:
        sys.exit(__doc__.strip())


main()
