"""What data-parallel training on many hosts would take, computed from measured figures of one machine.

    cargo build --release -p headstart-mpi --example all_reduce
    mpirun -n 2 target/release/examples/all_reduce | python tools/scaling/model.py -
    python tools/scaling/model.py            # with the figures of docs/machines.md

Measured: images a second of one core in each phase (`headstart bench`), and what a sum costs two
processes of one machine, a time for each call and a time for each byte: packing, adding, unpacking.
Computed: the network. Between N hosts a sum is a reduce-scatter and an all-gather, in which each
host sends and receives 2 (N - 1) / N times the bytes, at 0.8 of the link's speed; a call takes
log2 N rounds of the link's delay. Sums run while the backward pass does, which is two thirds of a
step's operations, but for the last bucket: that of the first layers, whose gradients come last.
A thread of its own packs and adds, beside the link; the core that it takes is not hidden.
"""

import argparse
import json
import math
import sys

HOSTS = [2, 4, 8, 16, 32, 64]
# Bits a second, and seconds of one way.
LINKS = [("10 Gbit/s", 10e9, 50e-6), ("100 Gbit/s", 100e9, 10e-6)]
SHARE = 0.8
BUCKET = 4 << 20
# Calls besides the gradients': losses and counts, moving statistics.
CALLS = 2
# Parameters that train, of ResNet-50 with ten classes.
PARAMETERS = {"head": 20_490, "fine-tune from layer 100": 20_091_000, "everything": 23_528_522}
# Part of a step's operations in the backward pass while which sums can run.
BACKWARD = {"head": 0.0, "fine-tune from layer 100": 0.6, "everything": 2 / 3}


def cost(lines):
    """Seconds of a call, and of a byte that is sent, between two processes of one machine."""
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    small = [row["median"] for row in rows if row["elements"] <= 1024]
    large = max(rows, key=lambda row: row["elements"])
    call = sum(small) / len(small)
    return call, (large["median"] - call) / large["sent"]


def step(phase, rate, hosts, link, arguments):
    """Seconds of computing, and of communication that nothing hides."""
    _, bits, delay = link
    computing = arguments.per_host / (rate * arguments.cores)
    sent = 2 * 4 * PARAMETERS[phase] * (hosts - 1) / hosts
    buckets = max(1, math.ceil(4 * PARAMETERS[phase] / BUCKET))
    rounds = math.ceil(math.log2(hosts))
    on_the_way = sent / (bits / 8 * SHARE) + sent * arguments.byte + (2 * buckets + CALLS) * rounds * delay
    own = (buckets + CALLS) * arguments.call + sent * arguments.byte / arguments.cores
    hidden = min(on_the_way * (buckets - 1) / buckets, computing * BACKWARD[phase])
    return computing, on_the_way - hidden + own


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sums", nargs="?", help="what the example all_reduce printed; - is the standard input")
    parser.add_argument("--cores", type=int, default=16, help="of a host")
    parser.add_argument("--per-host", type=int, default=320, help="images of a step on each host")
    parser.add_argument("--rates", type=float, nargs=3, default=RATES, help="images a second of a core, by phase")
    parser.add_argument("--call", type=float, default=CALL, help="seconds of a sum's call")
    parser.add_argument("--byte", type=float, default=BYTE, help="seconds of a byte, of one core")
    arguments = parser.parse_args()
    if arguments.sums:
        lines = sys.stdin if arguments.sums == "-" else open(arguments.sums)
        arguments.call, arguments.byte = cost(lines)
    print(f"a call {arguments.call * 1e6:.0f} us, a byte {arguments.byte * 1e9:.2f} ns, {arguments.per_host} images a host")
    print("| phase | link | " + " | ".join(f"{n} hosts" for n in HOSTS) + " | above a tenth from |")
    print("|---|---|" + "---|" * (len(HOSTS) + 1))
    for phase, rate in zip(PARAMETERS, arguments.rates):
        for link in LINKS:
            cells = []
            for hosts in HOSTS:
                computing, talking = step(phase, rate, hosts, link, arguments)
                cells.append(f"{hosts * computing / (computing + talking):.1f}x")
            above = "never to 64"
            for hosts in range(2, 65):
                computing, talking = step(phase, rate, hosts, link, arguments)
                if talking > 0.1 * (computing + talking):
                    above = f"{hosts} hosts"
                    break
            print(f"| {phase} | {link[0]} | " + " | ".join(cells) + f" | {above} |")


# Of one physical core of a Sapphire Rapids machine, f32, without AMX (docs/machines.md).
RATES = [30_000, 21.0, 11.0]
CALL = 10e-6
BYTE = 3.3e-9

if __name__ == "__main__":
    main()
