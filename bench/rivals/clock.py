"""What every runner of a rival shares: a clock, and the line that tells its measurements."""

import json
import os
import sys
import time

THREADS = int(os.environ["OMP_NUM_THREADS"])


class Clock:
    """Wall-clock and CPU time since the last lap."""

    def __init__(self):
        self.lap()

    def lap(self):
        """(seconds, share of THREADS cores that this process had), and starts anew."""
        now, busy = time.monotonic(), time.process_time()
        wall = now - getattr(self, "wall", now)
        share = (busy - getattr(self, "busy", busy)) / (wall * THREADS) if wall else 0
        self.wall, self.busy = now, busy
        return wall, share


def tell(version, flags, **laps):
    """Reports the best lap of each kind of work: laps are lists of what Clock.lap gave."""
    best = {work: min(times) for work, times in laps.items() if times}
    json.dump({"version": version, "flags": flags, "seconds": {w: b[0] for w, b in best.items()},
               "share": {w: b[1] for w, b in best.items()}}, sys.stdout)
    print(flush=True)
