"""The training step of a float preact ResNet-18 in PyTorch, as its users would write it.

The work of ``--arch resnet18 --mode preact --sizes ... --kd`` in float: shared kernels, private
normalisation by size, learned ensemble, ensemble and top-down distillation, Nesterov momentum,
weight decay of kernels. Needs PyTorch alone; see ``turns`` for how it is asked.

    python -m scripts.bench.peer_torch --sizes 224 192 --batch 8 --dtype bf16 --compile
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.bench import peer_job, turns
from scripts.bench.peer_job import CLASSES, DECAY, RATE, WIDTHS


class PrivateNorm(nn.ModuleList):
    """Batch normalisation with variables of its own for every size."""

    def __init__(self, channels: int, sizes: int):
        super().__init__(nn.BatchNorm2d(channels) for _ in range(sizes))

    def forward(self, x: Tensor, size: int) -> Tensor:
        """The normalised [N, C, H, W] of the size of a number."""
        return self[size](x)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: pixels on a side.
        stride: pixels.
    """
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
        sizes: number of them.
        first: whether it is the first of its group, whose input is activated already.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: int, first: bool):
        super().__init__()
        self.before = None if first else PrivateNorm(inputs, sizes)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.norm1 = PrivateNorm(outputs, sizes)
        self.conv2 = conv(outputs, outputs, 3)
        self.norm2 = PrivateNorm(outputs, sizes)
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = conv(inputs, outputs, 1, stride)
            self.shortcut_norm = PrivateNorm(outputs, sizes)

    def forward(self, x: Tensor, size: int) -> Tensor:
        """The output [N, C, H, W] at the size of a number."""
        y = x
        if self.before is not None:
            y = F.relu(self.before(x, size), inplace=True)
        y = F.relu(self.norm1(self.conv1(y), size), inplace=True)
        y = self.norm2(self.conv2(y), size)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x), size)
        return y + x


class Net(nn.Module):
    """The network of some number of sizes."""

    def __init__(self, sizes: int):
        super().__init__()
        self.stem = conv(3, WIDTHS[0], 7, 2)
        self.stem_norm = PrivateNorm(WIDTHS[0], sizes)
        self.groups = nn.ModuleList()
        self.last = nn.ModuleList()
        inputs = WIDTHS[0]
        for number, width in enumerate(WIDTHS):
            stride = 2 if number else 1
            first = Block(inputs, width, stride, sizes, True)
            self.groups.append(nn.ModuleList([first, Block(width, width, 1, sizes, False)]))
            self.last.append(PrivateNorm(width, sizes))
            inputs = width
        self.head = nn.Linear(WIDTHS[-1], CLASSES)
        self.alpha = None
        if sizes > 1:
            self.alpha = nn.Parameter(torch.ones(sizes))

    def forward(self, x: Tensor, size: int) -> Tensor:
        """Logits [N, classes] of images of the size of a number."""
        x = F.relu(self.stem_norm(self.stem(x), size), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        for blocks, last in zip(self.groups, self.last):
            for block in blocks:
                x = block(x, size)
            x = F.relu(last(x, size), inplace=True)
        return self.head(x.float().mean((2, 3)))


def soft_cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """Of logits [N, classes] with the softmax of a teacher's, which get no gradient."""
    targets = F.softmax(teacher.detach(), 1)
    return -(targets * F.log_softmax(student, 1)).sum(1).mean()


def loss(net: Net, sizes: Sequence[int], images: Tensor, labels: Tensor) -> Tensor:
    """The loss without weight decay.

    Args:
        net: network.
        sizes: edges, the largest first.
        images: of the largest size.
        labels: [N].
    """
    logits = []
    for number, size in enumerate(sizes):
        view = images
        if number:
            view = F.interpolate(images, size=(size, size), mode='nearest')
        logits.append(net(view, number).float())
    hard = sum(F.cross_entropy(one, labels) for one in logits)
    if net.alpha is None:
        return hard
    weights = torch.softmax(net.alpha, 0)
    ensemble = sum(weight * one.detach() for weight, one in zip(weights, logits))
    terms = [soft_cross_entropy(ensemble, one) for one in logits]
    for number, student in enumerate(logits):
        for teacher in logits[:number]:
            terms.append(soft_cross_entropy(teacher, student))
    distilled = sum(terms) / len(terms) * len(logits)
    return hard + F.cross_entropy(ensemble, labels) + distilled


def prepared(args: argparse.Namespace) -> tuple[Mapping[str, Any], Callable[[], float]]:
    """Version and number of parameters, and the step of these flags."""
    torch.manual_seed(0)
    net = Net(len(args.sizes)).train().to(args.device, memory_format=torch.channels_last)
    side = args.sizes[0]
    pixels = torch.randint(0, 256, (args.batch, 3, side, side), device=args.device)
    images = (pixels.float() / 255 - 0.45) / 0.225
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (args.batch,), device=args.device)
    kernels = [value for value in net.parameters() if value.dim() > 1]
    others = [value for value in net.parameters() if value.dim() <= 1]
    groups = [{'params': kernels, 'weight_decay': DECAY}, {'params': others}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
    forward = torch.compile(loss) if args.compile else loss
    low = args.dtype == 'bf16'
    kind = torch.device(args.device).type

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=low):
            value = forward(net, args.sizes, images, labels)
        value.backward()
        optimizer.step()
        return float(value.detach())  # waits for the device

    parameters = sum(value.numel() for value in net.parameters())
    return {'version': f'PyTorch {torch.__version__}', 'parameters': parameters}, step


def main(argv: Sequence[str]) -> None:
    """Serves the step that the flags name."""
    p = peer_job.flags()
    p.add_argument('--device', default='cpu')
    args = p.parse_args(argv)
    turns.serve(lambda: prepared(args))


if __name__ == '__main__':
    main(sys.argv[1:])
