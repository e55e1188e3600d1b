"""Code that is measured in an interpreter of its own, and one pass of json to compare it with."""

import json
import subprocess
import sys

# Each prints, as its last line, a list in JSON: seconds, and kilobytes of memory as Linux counts them.
PASS = """
import json, sys, time
start = time.perf_counter()
with open(sys.argv[1], "rb") as lines:
    for line in lines:
        json.loads(line)
print(json.dumps([time.perf_counter() - start]))
"""


def measure(code: str, *arguments: object) -> list[float]:
    """Seconds and bytes, as the code prints them."""
    call = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    seconds, *kilobytes = json.loads(done.stdout.splitlines()[-1])
    return [seconds, *(1024 * count for count in kilobytes)]
