"""Runs two benchmark programs in turns, one step each, and compares the medians of their times.

    alternate.py STEPS OURS THEIRS

Both are command lines that understand `--steps` and `--wait` and print `SECONDS …` per step (lines that begin with `warm` do not count).
"""

import shlex
import statistics
import subprocess
import sys


def main():
    steps = int(sys.argv[1])
    programs = [
        subprocess.Popen(
            [*shlex.split(command), "--steps", str(steps), "--wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command in sys.argv[2:4]
    ]
    times = ([], [])
    for _ in range(steps + 2):
        for program, seconds in zip(programs, times):
            program.stdin.write("\n")
            program.stdin.flush()
            line = program.stdout.readline().split()
            if not line:
                sys.exit(f"{program.args[0]} ended early")
            if line[0] != "warm":
                seconds.append(float(line[0]))
    for program in programs:
        program.stdin.close()
        program.wait()
    for name, seconds in zip(("ours", "theirs"), times):
        print(f"{name:8} median {statistics.median(seconds) * 1e3:8.1f} ms, fastest {min(seconds) * 1e3:8.1f} ms")
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    print(f"speed against theirs: {ratio:.2f} by medians, {min(times[1]) / min(times[0]):.2f} by the fastest steps")


if __name__ == "__main__":
    main()
