#!/usr/bin/env python3
"""Reads the event files of runs with TensorBoard, and compares every number with metrics.jsonl.

    pip install tensorboard
    cargo build --release
    python tests/golden/check_tensorboard.py [--hadal target/release/hadal]

checked with tensorboard 2.21. Runs on the CPU, of a second each: whole; gone on with after a stop that left rows behind
the newest checkpoint and a torn last record; begun anew without a checkpoint; without event files. Each is read by
TensorBoard's EventAccumulator and through its web server, once with the data server that it uses by itself and once
with the loader in Python. Ends with status 1 if anything differs.

    python tests/golden/check_tensorboard.py --write-golden

writes `tensorboard/events.out.tfevents.golden` beside this script with TensorBoard's own messages and record writer.
The tests compare what `hadal` writes with that file byte for byte.
"""

import argparse
import json
import logging
import math
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy
from tensorboard import program, version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOLDEN = HERE / "tensorboard" / "events.out.tfevents.golden"
PATIENCE = 20  # seconds in which the web server must have read a run
TINY = """--backend cpu --set model.hidden_size=32 --set model.num_attention_heads=2 --set train.sequence_length=32
    --set train.micro_batch=2 --set train.eval_batches=2 --set train.eval_interval=2 --set train.checkpoint_interval=2
    --set train.keep=0 --set train.sample_interval=0 --set schedule.warmup_steps=2""".split()

APART = ("split", "step", "expert_load", "elapsed", "wall_time")

failures = []


def check(name, good, detail=""):
    print(f"{'ok' if good else 'DIFFERS':8}{name}  {detail}", flush=True)
    if not good:
        failures.append(name)


def tagged(row):
    """Tags and numbers of a row, except its step; null is what is not finite."""
    split, loads = row["split"], row.get("expert_load", [])
    own = {key: value for key, value in row.items() if key not in APART}
    names = {"lr": "learning_rate"}
    yield from ((f"{split}/{names.get(key, key)}", value) for key, value in own.items())
    for load in loads:
        yield from ((f"expert_load/layer_{load['layer']}/{key}", load[key]) for key in ("max", "min", "entropy"))


def recorded(run):
    """Steps and numbers of each tag, by metrics.jsonl."""
    series = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for tag, value in tagged(row):
            series.setdefault(tag, []).append((row["step"], value))
    return series


def equal(found, expected):
    """The same series with the numbers in f32."""
    if [step for step, _ in found] != [step for step, _ in expected]:
        return False
    alike = lambda a, b: not math.isfinite(a) if b is None else numpy.float32(a) == numpy.float32(b)
    return all(alike(a, b) for (_, a), (_, b) in zip(found, expected))


def compare(name, found, expected):
    check(f"{name}: tags", sorted(found) == sorted(expected), f"{len(expected)} tags")
    differing = [tag for tag in expected if not equal(found.get(tag, []), expected[tag])]
    check(f"{name}: numbers", not differing, f"{sum(map(len, expected.values()))} numbers {' '.join(differing)}")


def accumulated(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def get(url, page, **query):
    with urllib.request.urlopen(f"{url}data/plugin/scalars/{page}?{urllib.parse.urlencode(query)}") as answer:
        return json.load(answer)


def shown(url, name, expected):
    """What the web server has of a run; reading may take it a while."""
    found, until = {}, time.time() + PATIENCE
    while time.time() < until:
        tags = get(url, "tags").get(name, {})
        points = lambda tag: get(url, "scalars", run=name, tag=tag)
        found = {tag: [(step, float(value)) for _, step, value in points(tag)] for tag in tags}
        if sorted(found) == sorted(expected) and all(equal(found[tag], expected[tag]) for tag in expected):
            break
        time.sleep(1)
    return found


def served(folder, names):
    """Compares the runs as the web server shows them, by each of its two loaders."""
    for loader in ("true", "false"):
        server = program.TensorBoard()
        options = ["--port", "0", "--load_fast", loader, "--reload_interval", "1"]
        server.configure([None, "--logdir", str(folder), *options])
        url = server.launch()
        for name in names:
            expected = recorded(folder / name)
            compare(f"{name}, web server, load_fast={loader}", shown(url, name, expected), expected)


def sound(name, run):
    """Framing, checksums, first events and times of all files."""
    last, written = 0.0, []
    for number, path in enumerate(sorted(run.glob("events.out.tfevents.*"))):
        events = list(LegacyEventFileLoader(str(path)).Load())
        starts = [event.step for event in events if event.session_log.status == SessionLog.START]
        good = events[0].file_version == "brain.Event:2" and len(starts) == 1 and (number > 0 or starts == [0])
        check(f"{name}: {path.name}", good, f"{len(events)} events, start {starts}")
        times = [event.wall_time for event in events]
        check(f"{name}: times rise", times == sorted(times) and times[0] >= last and time.time() - times[-1] < 600)
        written += [event.wall_time for event in events if event.HasField("summary")]
        last = times[-1]
    rows = [json.loads(line)["wall_time"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    # A run that went on has events of rows that it gave up.
    check(f"{name}: times of rows", set(rows) <= set(written), f"{len(rows)} rows")


class Hadal:
    def __init__(self, hadal, at):
        self.program, self.at = hadal, at

    def train(self, out, steps, *more):
        arguments = ["train", "--out", out, "--steps", str(steps), *more]
        done = subprocess.run([self.program, *arguments], cwd=self.at, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stderr}"
        return self.at / out


def runs(hadal):
    """Trains; returns the names of the runs."""
    hadal.train("whole", 6, *TINY)
    stopped = hadal.train("resumed", 7, *TINY)
    for step in (6, 7):  # as if it had been stopped in update 8, before the checkpoint of update 6 was complete
        shutil.rmtree(stopped / f"checkpoints/step-{step:08}")
    (file,) = stopped.glob("events.out.tfevents.*")
    file.write_bytes(file.read_bytes()[:-5])
    hadal.train("resumed", 9, "--backend", "cpu", "--resume")
    hadal.train("resumed", 10, "--backend", "cpu", "--resume")
    anew = hadal.train("anew", 3, *TINY)
    shutil.rmtree(anew / "checkpoints")
    hadal.train("anew", 2, "--backend", "cpu", "--resume")
    without = hadal.train("without", 1, *TINY, "--set", "log.tensorboard=false")
    check("without: no event file", not list(without.glob("events*")))
    return {"whole": 1, "resumed": 3, "anew": 2}


def write_golden():
    """Events with every kind of number; src/train/events.rs has the same rows."""
    def value(tag, number):
        return Summary.Value(tag=tag, simple_value=number)

    def val(loss):
        return [value("val/loss", loss), value("val/bits_per_byte", 1.75), value("val/token_accuracy", 0.5)]

    def train(*numbers):
        names = "loss balance_loss learning_rate grad_norm tokens tokens_per_second loss_scale skipped dropped".split()
        return [value(f"train/{name}", number) for name, number in zip(names, numbers)]

    def load(layer, *numbers):
        return [value(f"expert_load/layer_{layer}/{name}", x) for name, x in zip(("max", "min", "entropy"), numbers)]

    first = train(6.958984375, 0.0017, 2e-5, 1.25, 2048, 23456.789, 65536, 0, 0)
    first += load(1, 0.25, 0.0625, 0.9375) + load(26, 1 / 3, 0, 0.5)
    broken = train(math.nan, 0, 0, math.inf, 614400, 0, 0, 3, 0)
    with GOLDEN.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.75e9, file_version="brain.Event:2").SerializeToString())
        start = SessionLog(status=SessionLog.START)
        writer.write(Event(wall_time=1.75e9, step=301, session_log=start).SerializeToString())
        for i, (step, values) in enumerate([(0, val(6.9)), (1, first), (5_000_000_000, val(1e-3)), (300, broken)]):
            event = Event(wall_time=1.75e9 + 0.5 * i, step=step, summary=Summary(value=values))
            writer.write(event.SerializeToString())
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description="Compares event files with metrics.jsonl.")
    parser.add_argument("--hadal", default=ROOT / "target/release/hadal", type=Path)
    parser.add_argument("--write-golden", action="store_true")
    given = parser.parse_args()
    if given.write_golden:
        return write_golden()
    for name in ("tensorboard", "werkzeug"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"tensorboard {version.VERSION}, {given.hadal}")
    with tempfile.TemporaryDirectory() as at:
        hadal = Hadal(given.hadal.resolve(), Path(at))
        names = runs(hadal)
        for name, files in names.items():
            run = hadal.at / name
            check(f"{name}: number of files", len(list(run.glob("events.out.tfevents.*"))) == files, f"{files}")
            sound(name, run)
            compare(f"{name}, EventAccumulator", accumulated(run), recorded(run))
        served(hadal.at, names)
    print(f"{len(failures)} differences" + "".join(f"\n    {name}" for name in failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
