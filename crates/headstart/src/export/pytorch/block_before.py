class Block(nn.Module):
    """Batch norm and ReLU, then convolutions of 1x1, 3x3 and 1x1; the 3x3 strides."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        out = 4 * filters
        self.preact_bn = norm(inputs)
        self.conv1, self.bn1 = conv(inputs, filters, 1, bias=False), norm(filters)
        self.conv2, self.bn2 = conv(filters, filters, 3, stride, bias=False), norm(filters)
        self.conv3 = conv(filters, out, 1)
        self.stride, self.projects = stride, inputs != out
        if self.projects:
            self.conv0 = conv(inputs, out, 1, stride)

    def forward(self, x):
        ready = F.relu(self.preact_bn(x))
        y = F.relu(self.bn1(self.conv1(ready)))
        y = F.relu(self.bn2(self.conv2(y)))
        shortcut = self.conv0(ready) if self.projects else x[:, :, :: self.stride, :: self.stride]
        return shortcut + self.conv3(y)
