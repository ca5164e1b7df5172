"""Carries packets between TUN devices of two network namespaces, late and not always: what `tc netem` does, where the kernel
has no netem.

    relay.py NAMESPACE NAMESPACE SECONDS LOSS

Each packet takes SECONDS and is lost with the probability LOSS. The devices are called ta and tb.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def tun(namespace, name):
    """A TUN device in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main():
    first, second, delay, loss = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    devices = [tun(first, "ta"), tun(second, "tb")]
    other = {devices[0]: devices[1], devices[1]: devices[0]}
    chance, number, late = random.Random(1), 0, []
    print("ready", flush=True)
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        for device in select.select(devices, [], [], wait)[0]:
            for _ in range(64):
                try:
                    packet = os.read(device, 65536)
                except (BlockingIOError, OSError):
                    break
                if chance.random() >= loss:
                    number += 1
                    heapq.heappush(late, (time.monotonic() + delay, number, other[device], packet))
        while late and late[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(late)
            try:
                os.write(device, packet)
            except (BlockingIOError, OSError):
                pass


if __name__ == "__main__":
    main()
