def read(path):
    """The tensors of a .safetensors file of 32-bit floats, as safetensors.torch.load_file."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            count = (end - first) // 4
            values = torch.frombuffer(data, dtype=torch.float32, count=count, offset=start + first)
            tensors[name] = values.view(entry["shape"])
    return tensors


def load(path=WEIGHTS):
    """The net with its weights, in eval mode."""
    net = Net(len(CLASSES))
    net.load_state_dict(read(path))
    return net.eval()


def pixels(file):
    """An image file as `headstart predict` reads it: RGB bytes, 3 x HEIGHT x WIDTH, upright."""
    from PIL import Image, ImageOps

    @IMAGE@
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return values.view(HEIGHT, WIDTH, 3).permute(2, 0, 1)


@torch.inference_mode()
def predict(net, file, top=5):
    """The most probable classes of an image file, each with its probability."""
    device = next(net.parameters()).device
    probabilities = net.probabilities(pixels(file)[None].to(device))[0]
    best = probabilities.topk(min(top, len(CLASSES)))
    return [(CLASSES[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist())]
