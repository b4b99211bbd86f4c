"""Measures this operator beside the upstream one; prints the tables and writes them to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench import credentials, deferred, weight
from bench.arms import ARMS
from bench.clusters import cluster
from bench.measure import Bench
from bench.report import PAGE, Circumstances, missed, page
from bench.subjects import BenchError
from tests.cluster.errors import ClusterError


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; the exit code tells whether it could be run, not how the numbers are."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the tables; default %(default)s")
    options = parser.parse_args(arguments)
    try:
        return _bench(options.page)
    except (BenchError, ClusterError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _bench(target: Path) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kpo-bench-") as name:
        scratch = Path(name)
        with cluster([arm.name for arm in ARMS], scratch, _say) as found:
            circumstances = Circumstances.now(found)
            with Bench(found, scratch, _say) as bench:
                results = bench.run()
            chapters = [deferred.measure(found, scratch, _say)]
        chapters += [weight.measure(_say), credentials.measure(_say)]
    text = page(results, chapters, circumstances)
    sys.stdout.write(f"\n{text}\n")
    _say(f"measured in {time.monotonic() - began:.0f} s")
    if not circumstances.real:
        _say(f"embedded cluster only, as real ones are not possible here: {target} is left as it is")
        return 0
    target.write_text(text)
    _say(f"written to {target}")
    for each in missed(results, chapters):
        _say(f"MISSED: {each}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"bench: {text}\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Ended from outside, it ends what it started as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main(sys.argv[1:]))
