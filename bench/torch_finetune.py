"""A PyTorch fine-tuning script as a competent person writes it, for bench/accuracy.py: fastai's `fine_tune`.

    headstart export resnet50 --weights FILE --format pytorch --out net.safetensors
    python bench/torch_finetune.py FOLDER net_model.py --seconds 600 [--seed 0] [--precision auto]

FOLDER has train/CLASS/* and test/CLASS/*. The net is headstart's own export, so both start from the
same weights. One epoch of the head over the frozen net, then everything: AdamW (decoupled weight decay
0.01), one cycle, learning rates a hundred times smaller at the input than at the head, batch norm of the
frozen part in training mode, as fastai does. It takes as many epochs as fit the processor time, at
least one, and prints one line of JSON. A part of the training images is held out, and the weights with
the best validation accuracy count.
"""

import argparse
import importlib.util
import json
import pathlib
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms as T

raw = argparse.RawDescriptionHelpFormatter
parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("module", type=pathlib.Path)
parser.add_argument("--seconds", type=float, required=True, help="of processor time")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--rate", type=float, default=2e-3, help="fastai's base_lr")
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--precision", choices=["auto", "f32", "bf16"], default="auto", help="auto: the faster one")
args = parser.parse_args()

torch.manual_seed(args.seed)
spent = time.process_time

# RGB from 0 to 255: the net normalises.
bytes_ = T.PILToTensor()
change = T.Compose(
    [
        T.RandomResizedCrop(args.size, scale=(0.5, 1.0)),
        T.RandomHorizontalFlip(),
        T.RandomRotation(10),
        T.ColorJitter(0.2, 0.2),
        bytes_,
    ]
)
keep = T.Compose([T.Resize((args.size, args.size)), bytes_])


def rgb(path):
    return datasets.folder.pil_loader(path)


train = datasets.ImageFolder(args.folder / "train", change, loader=rgb)
plain = datasets.ImageFolder(args.folder / "train", keep, loader=rgb)
test = datasets.ImageFolder(args.folder / "test", keep, loader=rgb)
assert train.classes == test.classes
order = torch.randperm(len(train)).tolist()
held = max(len(train) // 10, len(train.classes))
training, validation = Subset(train, order[held:]), Subset(plain, order[:held])
loader = DataLoader(training, args.batch, shuffle=True, drop_last=len(training) > args.batch)

spec = importlib.util.spec_from_file_location("net_model", args.module)
source = importlib.util.module_from_spec(spec)
spec.loader.exec_module(source)
net = source.load()
last = [name for name, part in net.named_children() if isinstance(part, nn.Linear)][-1]
setattr(net, last, nn.Linear(getattr(net, last).in_features, len(train.classes)))
head = list(getattr(net, last).parameters())
body = [p for name, p in net.named_parameters() if not name.startswith(last + ".")]
loss_of = nn.CrossEntropyLoss()


def forward(images):
    with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
        return net(images.float()).float()


@torch.inference_mode()
def accuracy(data):
    net.eval()
    right = 0
    for images, labels in DataLoader(data, 64):
        right += (forward(images).argmax(1) == labels).sum().item()
    return right / len(data)


def epochs(count, groups, pct_start, div):
    """fastai's fit_one_cycle, over parameter groups with their greatest learning rates."""
    optimizer = torch.optim.AdamW(groups, betas=(0.95, 0.99), eps=1e-5, weight_decay=0.01)
    rates = [group["lr"] for group in groups]
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        rates,
        total_steps=max(count * len(loader), 2),
        pct_start=pct_start,
        div_factor=div,
        final_div_factor=1e5,
    )
    for _ in range(count):
        net.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss_of(forward(images), labels).backward()
            optimizer.step()
            cycle.step()
        yield accuracy(validation)


def thirds(parameters, rate, mult):
    """Groups with learning rates from rate / mult to rate, as fastai's slice over its parameter groups."""
    middle = len(parameters) // 2
    low, mid = rate / mult, rate / mult**0.5
    return [
        {"params": parameters[:middle], "lr": low},
        {"params": parameters[middle:], "lr": mid},
        {"params": head, "lr": rate},
    ]


def step_time(precision):
    """Seconds of the quicker of two steps, on as many images as a batch."""
    args.precision = precision
    images = torch.zeros(args.batch, 3, args.size, args.size, dtype=torch.uint8)
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        loss_of(forward(images), torch.zeros(args.batch, dtype=torch.long)).backward()
        taken.append(time.perf_counter() - start)
    net.zero_grad()
    return min(taken)


if args.precision == "auto":
    # Not every processor with instructions for bf16 is faster with them. Evaluating, so that no statistics move.
    net.eval()
    times = {precision: step_time(precision) for precision in ("f32", "bf16")}
    args.precision = min(times, key=times.get)
begin = spent()
for p in body:
    p.requires_grad_(False)
best, state, log = -1.0, None, []


def note(value):
    global best, state
    log.append(round(value, 4))
    if value >= best:
        best, state = value, {k: v.clone() for k, v in net.state_dict().items()}


for value in epochs(1, [{"params": head, "lr": args.rate}], 0.99, 25.0):
    note(value)
for p in body:
    p.requires_grad_(True)
# How long an epoch of everything takes: a few steps of a copy of the weights.
saved = {k: v.clone() for k, v in net.state_dict().items()}
probe, start = 0, spent()
net.train()
for images, labels in loader:
    loss_of(forward(images), labels).backward()
    probe += 1
    if probe == 3:
        break
net.zero_grad()
net.load_state_dict(saved)
each = (spent() - start) / probe * len(loader) * 1.05
count = max(int((args.seconds - (spent() - begin)) / each), 1)
for value in epochs(count, thirds(body, args.rate / 2, 100), 0.3, 5.0):
    note(value)
seconds = spent() - begin
net.load_state_dict(state)
result = {
    "accuracy": accuracy(test),
    "validation": log,
    "epochs": 1 + count,
    "seconds": round(seconds),
    "precision": args.precision,
}
print(json.dumps(result))
