#!/usr/bin/env python3
"""moto's S3 server on loopback, for the tests of s3://.

    python tools/objects/bucket.py        # needs: pip install 'moto[server]'

Prints its address, then does what comes on stdin, a line each, and answers each with "ok". It ends when stdin does.

    put BUCKET KEY BODY      KEY and BODY are base64; the bucket is made if it is not there
    fill BUCKET KEY BYTES    an object of so many bytes
    many BUCKET KEY COUNT    small objects, whose names begin with KEY and end in a number
    delete BUCKET KEY
    tar BUCKET KEY FOLDER    a tar of a folder of this machine
"""

import base64
import io
import os
import sys
import tarfile

os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer


def do(words):
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    what, bucket, key = words[0], words[1], base64.b64decode(words[2]).decode()
    if bucket not in backend.buckets:
        backend.create_bucket(bucket, "us-east-1")
    if what == "put":
        backend.put_object(bucket, key, base64.b64decode(words[3] if len(words) > 3 else ""))
    elif what == "fill":
        # Not all the same, so that a range in the wrong place is seen.
        size = int(words[3])
        backend.put_object(bucket, key, b"".join(n.to_bytes(4, "big") for n in range(size // 4)))
    elif what == "many":
        for n in range(int(words[3])):
            backend.put_object(bucket, f"{key}{n:06}", b"text")
    elif what == "delete":
        backend.delete_object(bucket, key)
    elif what == "tar":
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as archive:
            archive.add(" ".join(words[3:]), arcname="")
        backend.put_object(bucket, key, body.getvalue())
    else:
        raise SystemExit(f"no such command: {what}")


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"{host}:{port}", flush=True)
    for line in sys.stdin:
        do(line.split())
        print("ok", flush=True)
    # Threads of open connections do not keep it.
    os._exit(0)


main()
