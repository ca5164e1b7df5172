"""Load on `headstart serve` over loopback: speed, latency, and what it does under attack.

    cargo build --release
    python bench/serve.py speed [--headstart target/release/headstart]
    python bench/serve.py compare            # the same requests to FastAPI with PyTorch
    python bench/serve.py triton             # by Triton's client beside plain requests
    python bench/serve.py restart            # 10,000 requests over a stop and a start
    python bench/serve.py attack             # slow clients, idle connections, a 1 GB body, a PNG bomb

`compare` needs torch, torchvision, fastapi and uvicorn in this Python, `triton` needs numpy and
tritonclient[http]; the others need nothing.
speed: ResNet-50 at 224 pixels, images of random pixels as binary tensors of the Open Inference
Protocol. First `headstart bench` at batch 20, then as many requests of 20 images as two connections
can send, then requests of one image at random times (a Poisson process) at half that throughput.
Rounds of the first two are interleaved, since speed drifts with the machine's load. Traffic stays
on 127.0.0.1; every loop ends by itself.
"""

import argparse
import asyncio
import atexit
import json
import os
import pathlib
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

SIDE = 224
BATCH = 20
IMAGE = SIDE * SIDE * 3


class Server:
    """A server that listens; its address is (host, port)."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        # However this ends, the server does not outlive it.
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        if not line.startswith("http://"):
            raise SystemExit(f"{command}: {line}{self.process.stderr.read()}")
        host, port = line.split("http://")[1].split(": ")[0].strip().split(":")
        self.address = host, int(port)

    def memory(self):
        """MB now, and the most so far."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+)", status)[1]) // 1024 for name in ("VmRSS", "VmHWM")]

    def end(self):
        """Its last words."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return err


def head(path, length, kind="application/octet-stream", more=""):
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{more}Content-Length: {length}\r\n\r\n"
    ).encode()


def infer(count, side=SIDE, name="net", number=""):
    """A request of random images as bytes."""
    pixels = random.Random(count).randbytes(count * side * side * 3)
    given = {"name": "image", "datatype": "UINT8", "shape": [count, side, side, 3]}
    given["parameters"] = {"binary_data_size": len(pixels)}
    wanted = {"name": "probabilities", "parameters": {"binary_data": True}}
    text = json.dumps({"id": str(number), "inputs": [given], "outputs": [wanted]}).encode()
    more = f"Inference-Header-Content-Length: {len(text)}\r\n"
    return head(f"/v2/models/{name}/infer", len(text) + len(pixels), more=more) + text + pixels


async def read(reader):
    """The status code, headers and body of an answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split(" ")[1]), headers, body


async def closed(address, connections, request, seconds, images):
    """Images a second over connections that each ask again as soon as they are answered."""
    done, start = 0, time.perf_counter()

    async def ask():
        nonlocal done
        reader, writer = await asyncio.open_connection(*address)
        while time.perf_counter() - start < seconds:
            writer.write(request)
            code, _, body = await read(reader)
            assert code == 200, body[:300]
            done += images
        writer.close()

    await asyncio.gather(*[ask() for _ in range(connections)])
    return done / (time.perf_counter() - start)


async def opened(address, rate, request, seconds):
    """Latencies in ms of requests that come at random times, `rate` a second, and how many were refused."""
    free, times, refused, tasks = [], [], 0, []

    async def ask(due):
        nonlocal refused
        pair = free.pop() if free else await asyncio.open_connection(*address)
        pair[1].write(request)
        code, _, _ = await read(pair[0])
        times.append((time.perf_counter() - due) * 1000)
        refused += code != 200
        free.append(pair)

    rng, start, due = random.Random(3), time.perf_counter(), 0.0
    while due < seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0, start + due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(start + due)))
    await asyncio.gather(*tasks)
    return times, refused


def part(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def latencies(title, times, refused):
    print(
        f"{title}: p50 {part(times, .5):.0f} ms, p99 {part(times, .99):.0f} ms, max {max(times):.0f} ms "
        f"of {len(times)} requests, {refused} refused",
        flush=True,
    )


def model(binary, folder):
    """A ResNet-50 of four classes; what its weights are does not matter."""
    out = folder / "net"
    line = f"{binary} train --data synthetic:4x6x{SIDE} --model resnet50 --weights none --epochs 1"
    line += f" --fine-tune-epochs 0 --no-cache --out {out}"
    subprocess.run(line.split(), check=True, capture_output=True)
    return out / "weights" / "best.safetensors"


def speed(options, folder):
    binary = options.headstart
    path = model(binary, folder)
    command = [binary, "serve", f"net={path}", "--port", "0", "--max-batch", str(BATCH)]
    bench = [binary, "bench", "--model", "resnet50", "--batch-size", str(BATCH), "--json", "--repeat", "3"]
    bench += ["--image-size", str(SIDE), "--upsample", "1"]
    if options.precision:
        command += ["--precision", options.precision]
        bench += ["--precision", options.precision]
    rates, alone = [], []
    for _ in range(options.rounds):
        found = json.loads(subprocess.run(bench, check=True, capture_output=True, text=True).stdout)
        alone.append(found["images_per_second"])
        server = Server(command)
        asyncio.run(closed(server.address, 2, infer(BATCH), 2, BATCH))
        rates.append(asyncio.run(closed(server.address, 2, infer(BATCH), options.seconds, BATCH)))
        server.end()
    rate, bare = statistics.median(rates), statistics.median(alone)
    print(f"bench {bare:.1f} images/s, infer {rate:.1f} images/s: {rate / bare:.3f}", flush=True)
    print(f"rounds: bench {alone}, infer {rates}")
    server = Server(command)
    times, refused = asyncio.run(opened(server.address, rate / 2, infer(1), 2 * options.seconds))
    print(f"a batch of {BATCH} takes {1000 * BATCH / bare:.0f} ms")
    latencies("one image at half that load", times, refused)
    print(f"memory: {server.memory()} MB; {server.end().strip()}")


def triton(options, folder):
    """Requests of 20 images by tritonclient on two threads, in turn with plain requests on two connections."""
    import concurrent.futures

    import numpy
    import tritonclient.http as client

    path = model(options.headstart, folder)
    command = [options.headstart, "serve", f"net={path}", "--port", "0", "--max-batch", str(BATCH)]
    command += ["--precision", options.precision] if options.precision else []
    server = Server(command)
    pixels = numpy.random.default_rng(1).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=numpy.uint8)

    def ask(until):
        """Images that were answered by then."""
        with client.InferenceServerClient("{}:{}".format(*server.address)) as own:
            done = 0
            while time.perf_counter() < until:
                image = client.InferInput("image", list(pixels.shape), "UINT8")
                image.set_data_from_numpy(pixels)
                found = own.infer("net", [image]).as_numpy("probabilities")
                assert found.shape == (BATCH, 4) and abs(found.sum() - BATCH) < 1e-2
                done += BATCH
            return done

    def rate(seconds):
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            done = sum(pool.map(ask, [start + seconds] * 2))
        return done / (time.perf_counter() - start)

    rate(2)
    theirs, plain = [], []
    for _ in range(options.rounds):
        plain.append(asyncio.run(closed(server.address, 2, infer(BATCH), options.seconds, BATCH)))
        theirs.append(rate(options.seconds))
    own, base = statistics.median(theirs), statistics.median(plain)
    print(f"tritonclient {own:.1f} images/s, plain requests {base:.1f} images/s: {own / base:.3f}")
    print(f"rounds: tritonclient {theirs}, plain {plain}; {server.end().strip()}")


APP = """
import asyncio, sys
import torch, torchvision, uvicorn, numpy as np
from fastapi import FastAPI, Request, Response

net = torchvision.models.resnet50(weights=None).eval().to(memory_format=torch.channels_last)
mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
app = FastAPI()

@torch.inference_mode()
def run(body, start):
    pixels = torch.frombuffer(bytearray(body[start:]), dtype=torch.uint8).view(-1, SIDE, SIDE, 3)
    x = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean)
    if sys.argv[2] == "bf16":
        with torch.autocast("cpu", torch.bfloat16):
            y = net(x)
    else:
        y = net(x)
    return torch.softmax(y.float(), 1).numpy().tobytes()

@app.post("/v2/models/net/infer")
async def infer(request: Request):
    body = await request.body()
    start = int(request.headers["inference-header-content-length"])
    # As a plain def would run: on a thread of the pool.
    return Response(await asyncio.to_thread(run, body, start), media_type="application/octet-stream")

print(f"http://127.0.0.1:{sys.argv[1]}: net", flush=True)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


def compare(options, folder):
    """The usual server of Python: FastAPI before PyTorch, without batching."""
    app = folder / "app.py"
    app.write_text(APP.replace("SIDE", str(SIDE)))
    server = Server([sys.executable, str(app), "8731", options.precision or "f32"])
    # It is imported, and about to listen.
    time.sleep(2)
    asyncio.run(closed(server.address, 2, infer(BATCH), 2, BATCH))
    rate = asyncio.run(closed(server.address, 2, infer(BATCH), options.seconds, BATCH))
    print(f"FastAPI and PyTorch: {rate:.1f} images/s in requests of {BATCH}", flush=True)
    single = asyncio.run(closed(server.address, 4, infer(1), options.seconds, 1))
    print(f"FastAPI and PyTorch: {single:.1f} images/s in requests of 1")
    load = options.rate or rate / 2
    times, refused = asyncio.run(opened(server.address, load, infer(1), 2 * options.seconds))
    latencies(f"FastAPI and PyTorch, one image, {load:.0f} a second", times, refused)
    print(f"memory: {server.memory()} MB")
    server.process.terminate()


async def survive(address, number, seen):
    """Asks with one id after another until each is answered, over an end of the server."""
    pair = None
    while number:
        wanted = number.pop()
        while True:
            try:
                pair = pair or await asyncio.open_connection(*address[0])
                pair[1].write(infer(1, 32, number=wanted))
                code, headers, body = await read(pair[0])
            except (OSError, asyncio.IncompleteReadError):
                pair = None
                seen["refused"] += 1
                await asyncio.sleep(0.05)
                continue
            if headers.get("connection") == "close":
                pair = None
            if code == 503:
                seen["busy"] += 1
                await asyncio.sleep(0.05)
                continue
            text = json.loads(body[: int(headers["inference-header-content-length"])])
            assert code == 200 and text["id"] == str(wanted), (code, text, wanted)
            seen["answered"].append(wanted)
            break


def restart(options, _):
    """Each of the requests is answered once; those that were not are refused and asked again."""
    def start(port):
        return Server([options.headstart, "serve", "net=resnet20", "--port", str(port)])

    server = start(0)
    address, numbers = [server.address], list(range(options.requests))
    seen, words = {"answered": [], "refused": 0, "busy": 0}, []

    async def run():
        nonlocal server
        work = [asyncio.create_task(survive(address, numbers, seen)) for _ in range(16)]
        for share in (2 / 3, 1 / 3):
            while len(numbers) > share * options.requests:
                await asyncio.sleep(0.02)
            words.append(await asyncio.to_thread(server.end))
            await asyncio.sleep(0.2)
            server = await asyncio.to_thread(start, address[0][1])
        await asyncio.gather(*work)

    asyncio.run(run())
    words.append(server.end())
    computed = sum(int(re.search(r"(\d+) images", text)[1]) for text in words)
    answered = seen["answered"]
    print(f"{len(answered)} answered, {len(set(answered))} different, {computed} computed by three servers")
    print(f"{seen['refused']} times refused while there was none, {seen['busy']} times 503")
    assert len(answered) == len(set(answered)) == computed == options.requests


def bomb(side):
    """A PNG of one colour: a thousandth of its pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    deflate = zlib.compressobj(9)
    rows = b"".join(deflate.compress(bytes(1 + 3 * side)) for _ in range(side))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", rows + deflate.flush()) + chunk(b"IEND", b"")


async def attack_all(server):
    address = server.address
    good = infer(1, 32)

    async def ask(request):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        code, _, body = await asyncio.wait_for(read(reader), 60)
        writer.close()
        return code, body

    async def say(title):
        times = []
        for _ in range(50):
            start = time.perf_counter()
            code, _ = await ask(good)
            assert code == 200
            times.append((time.perf_counter() - start) * 1000)
        now, most = server.memory()
        print(f"{title}: others p99 {part(times, .99):.0f} ms; memory {now} MB, at most {most} MB", flush=True)

    await say("at rest")
    idle = [await asyncio.open_connection(*address) for _ in range(1000)]
    await say("1,000 idle connections")
    slow = [await asyncio.open_connection(*address) for _ in range(100)]
    for second in range(5):
        for _, writer in slow:
            writer.write(head("/predict", 10_000_000, "image/png") if second == 0 else b"x")
        await asyncio.sleep(1)
    await say("and 100 clients of a byte a second")
    reader, writer = await asyncio.open_connection(*address)
    writer.write(head("/predict", 1 << 30, "image/png") + bytes(1 << 20))
    code, _, _ = await asyncio.wait_for(read(reader), 10)
    await say(f"a body of 1 GB ({code})")
    sent, (reader, writer) = 0, await asyncio.open_connection(*address)
    writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        while sent < 1 << 30:
            writer.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            await writer.drain()
            sent += 1 << 20
    except OSError:
        pass
    await say(f"a body of 1 GB in parts, of which {sent >> 20} MB were taken")
    for side in (6900, 30000):
        file = await asyncio.to_thread(bomb, side)
        codes = await asyncio.gather(*[ask(head("/predict", len(file), "image/png") + file) for _ in range(16)])
        count = {code: [c for c, _ in codes].count(code) for code, _ in codes}
        await say(f"16 PNG bombs of {side}x{side} pixels in {len(file) >> 10} KB each ({count})")
    for _, writer in idle + slow:
        writer.close()


def attack(options, _):
    command = [options.headstart, "serve", "net=resnet20", "--port", "0", "--memory-limit", "512"]
    server = Server(command)
    asyncio.run(attack_all(server))
    print(server.end().strip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "compare", "triton", "restart", "attack"])
    parser.add_argument("--headstart", default="target/release/headstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, help="single images a second, for compare")
    parser.add_argument("--precision", choices=["f32", "bf16"])
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.2f} of {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        globals()[options.what](options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
