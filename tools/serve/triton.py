"""Asks `headstart serve` by tritonclient[http], unchanged, and compares its answers with those of plain requests.

    python tools/serve/triton.py target/debug/headstart
"""

import http.client
import json
import signal
import subprocess
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def start(binary):
    server = subprocess.Popen([binary, "serve", "small=resnet20", "--port", "0"], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    assert line.startswith("http://"), line
    return server, line.split("http://")[1].split(": ")[0]


def images(count):
    return np.random.default_rng(7).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def tensor(pixels, binary=True):
    given = triton.InferInput("image", list(pixels.shape), "UINT8")
    given.set_data_from_numpy(pixels, binary_data=binary)
    return [given]


def plain(address, pixels):
    """The probabilities by JSON, without the client."""
    connection = http.client.HTTPConnection(address)
    given = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    connection.request("POST", "/v2/models/small/infer", json.dumps({"inputs": [given]}))
    data = json.load(connection.getresponse())["outputs"][0]["data"]
    return np.array(data, np.float32).reshape(len(pixels), -1)


def check_server(client, address):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("small")
    assert client.is_model_ready("small", "1") and not client.is_model_ready("small", "2")
    assert client.get_server_metadata()["name"] == "headstart"


def check_metadata(client, address):
    metadata = client.get_model_metadata("small")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}], metadata
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}], metadata
    assert metadata["classes"][0] == "airplane", metadata
    assert client.get_model_config("small")["input"][0]["dims"] == [32, 32, 3]


def check_infer(client, address):
    pixels = images(5)
    expected = plain(address, pixels)
    assert np.allclose(expected.sum(1), 1, atol=1e-5), expected
    for given in (True, False):
        for wanted in (True, False):
            outputs = [triton.InferRequestedOutput("probabilities", binary_data=wanted)]
            result = client.infer("small", tensor(pixels, given), outputs=outputs, request_id="x")
            assert result.get_response()["id"] == "x"
            assert (result.as_numpy("probabilities") == expected).all(), (given, wanted)
    # Without outputs the client asks for all of them as bytes.
    result = client.infer("small", tensor(pixels), model_version="1")
    assert (result.as_numpy("probabilities") == expected).all()


def check_asynchronous(client, address):
    pixels = images(8)
    expected = plain(address, pixels)
    asked = [client.async_infer("small", tensor(pixels[i : i + 1])) for i in range(len(pixels))]
    for i, request in enumerate(asked):
        assert (request.get_result().as_numpy("probabilities")[0] == expected[i]).all(), i


def check_classes(client, address):
    pixels = images(2)
    expected = plain(address, pixels)
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        lines = client.infer("small", tensor(pixels), outputs=outputs).as_numpy("probabilities")
        assert lines.shape == (2, 3), lines
        for row, line in zip(expected, lines):
            text = line[0].decode() if isinstance(line[0], bytes) else line[0]
            probability, index, name = text.split(":")
            assert int(index) == row.argmax() and abs(float(probability) - row.max()) < 1e-6, text


def check_errors(client, address):
    wrong = images(1)[:, :16]
    for given, part in ((tensor(wrong), "[n, 32, 32, 3]"), (None, "other")):
        try:
            client.infer("small" if given else "other", given or tensor(images(1)))
        except InferenceServerException as error:
            assert part in error.message(), error
        else:
            raise AssertionError("it was answered")


def check_repository(client, address):
    client.unload_model("small")
    assert not client.is_model_ready("small")
    assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
    client.load_model("small")
    assert client.is_model_ready("small")
    client.infer("small", tensor(images(1)))


def main():
    server, address = start(sys.argv[1])
    passed, failed = 0, 0
    try:
        client = triton.InferenceServerClient(address, concurrency=4)
        checks = [check for name, check in globals().items() if name.startswith("check_")]
        for check in checks:
            try:
                check(client, address)
                passed += 1
            except Exception as error:  # each check is reported
                failed += 1
                print(f"{check.__name__}: {type(error).__name__}: {error}")
        client.close()
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
    if code != 0:
        failed += 1
        print(f"the server ended with {code}")
    print(f"tritonclient: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
