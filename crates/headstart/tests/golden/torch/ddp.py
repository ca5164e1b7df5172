"""Writes ddp.expected.safetensors beside this file: three steps of PyTorch's DistributedDataParallel over two
processes, from the weights of basic.pth. Each process takes half of a batch through the net; batch norm is not
synchronised.

    pip install torch torchvision safetensors
    python ddp.py

It holds images (height x width x channels, 0 to 255), labels, losses (the mean over both processes at each step),
and gradient/NAME (of the first step) and after/NAME (every weight and statistic of rank 0 after 3 steps of SGD with
momentum 0.9), in PyTorch's names and layouts.
"""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.resnet import BasicBlock, conv1x1

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESSES, EACH, STEPS = 2, 4, 3


def stage(inputs, width, blocks, stride):
    shortcut = None
    if stride != 1 or inputs != width:
        shortcut = torch.nn.Sequential(conv1x1(inputs, width, stride), torch.nn.BatchNorm2d(width))
    layers = [BasicBlock(inputs, width, stride, shortcut)]
    layers += [BasicBlock(width, width) for _ in range(1, blocks)]
    return torch.nn.Sequential(*layers)


class Small(torch.nn.Module):
    """The net of generate.py, basic blocks."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(8, 4, 2, 1)
        self.layer2 = stage(4, 6, 2, 2)
        self.fc = torch.nn.Linear(6, 3)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def main(rank, images, labels):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    net = Small()
    net.load_state_dict(torch.load(os.path.join(HERE, "basic.pth")))
    net = DistributedDataParallel(net)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    own = slice(rank * EACH, (rank + 1) * EACH)
    x = ((images[own] / 255 - mean) / std).permute(0, 3, 1, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    out, losses = {"images": images, "labels": labels.float()}, []
    for i in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), labels[own])
        loss.backward()
        if i == 0:
            named = net.module.named_parameters()
            out.update({f"gradient/{n}": p.grad.clone() for n, p in named})
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item() / PROCESSES)
        optimizer.step()
    if rank == 0:
        out["losses"] = torch.tensor(losses)
        state = net.module.state_dict().items()
        out.update({f"after/{n}": v.clone() for n, v in state if v.is_floating_point()})
        path = os.path.join(HERE, "ddp.expected.safetensors")
        save_file({k: v.contiguous() for k, v in out.items()}, path)
        print(len(out), "tensors", losses)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.manual_seed(11)
    count = PROCESSES * EACH
    images = torch.randint(0, 256, (count, 32, 32, 3)).float()
    labels = torch.randint(0, 3, (count,))
    mp.spawn(main, (images, labels), nprocs=PROCESSES)
