#!/usr/bin/env python3
"""Runs a command and tells the peak of its memory: anonymous, as `styx explain` predicts it, and all.

usage: tools/peak.py COMMAND ...

RssAnon of /proc/PID/status is read every 5 ms, so a spike shorter than that can be missed; mapped
weight files are not in it, since the system may drop their pages at any time. The peak of all
resident memory is the system's own account, with those pages.
"""

import resource
import subprocess
import sys
import time


def anonymous(pid):
    """RssAnon in bytes; 0 once the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    process = subprocess.Popen(sys.argv[1:])
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.005)
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"peak of anonymous memory: {peak} bytes ({peak / 2**20:.1f} MiB)", file=sys.stderr)
    print(f"peak of resident memory: {resident} bytes ({resident / 2**20:.1f} MiB)",
          file=sys.stderr)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
