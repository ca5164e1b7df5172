"""Writes small.pth, small.safetensors and expected.safetensors beside this file: a small net of torchvision's own
blocks, its weights in PyTorch's two formats, and what PyTorch computes with it.

    pip install torch torchvision safetensors
    python generate.py

expected.safetensors: images (height x width x channels, 0 to 255), labels; inference (probabilities); loss,
gradient/NAME and after/NAME (every weight and statistic after 3 steps of SGD), in PyTorch's names and layouts.
"""

import os

import torch
from safetensors.torch import save_file
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

torch.manual_seed(5)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))


def stage(block, inputs, width, blocks, stride):
    out = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != out:
        shortcut = torch.nn.Sequential(conv1x1(inputs, out, stride), torch.nn.BatchNorm2d(out))
    layers = [block(inputs, width, stride, shortcut)]
    layers += [block(out, width) for _ in range(1, blocks)]
    return torch.nn.Sequential(*layers), out


class Small(torch.nn.Module):
    """torchvision's ResNet with a stem of 8 filters and two stages, bottleneck blocks."""

    def __init__(self, block):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1)
        self.layer1, n = stage(block, 8, 4, 2, 1)
        self.layer2, n = stage(block, n, 6, 2, 2)
        self.fc = torch.nn.Linear(n, 3)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


for name, block in (("bottleneck", Bottleneck), ("basic", BasicBlock)):
    net = Small(block)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for t, low, high in ((m.weight, 0.5, 1.5), (m.bias, -0.2, 0.2), (m.running_mean, -0.2, 0.2), (m.running_var, 0.5, 1.5)):
                torch.nn.init.uniform_(t, low, high)
    torch.save(net.state_dict(), os.path.join(HERE, f"{name}.pth"))
    floats = {k: v.clone().contiguous() for k, v in net.state_dict().items() if v.is_floating_point()}
    save_file(floats, os.path.join(HERE, f"{name}.safetensors"))
    images = torch.randint(0, 256, (4, 32, 32, 3)).float()
    labels = torch.tensor([0, 2, 1, 2])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    net.eval()
    out = {"images": images, "labels": labels.float(), "inference": net(x).softmax(1).detach()}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for i in range(3):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        if i == 0:
            out.update({f"gradient/{n}": p.grad.clone() for n, p in net.named_parameters()})
        losses.append(loss.item())
        optimizer.step()
    out["losses"] = torch.tensor(losses)
    out.update({f"after/{n}": v.clone() for n, v in net.state_dict().items() if v.is_floating_point()})
    path = os.path.join(HERE, f"{name}.expected.safetensors")
    save_file({k: v.contiguous() for k, v in out.items()}, path)
    print(name, len(out), "tensors", losses)
