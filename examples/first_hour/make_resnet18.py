"""Trains torchvision's ResNet-18 on clip arts of other classes, for want of ImageNet's weights.

    python examples/first_hour/make_resnet18.py /usr/share/openclipart/png

It writes resnet18.pth, a state dict as torch.save writes it.
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

OURS = ('birds', 'flowers', 'fruit', 'bodypart', 'homes', 'mammals', 'money', 'roadsigns')
COUNTS = range(20, 150)

Image.MAX_IMAGE_PIXELS = None
random.seed(0)
torch.manual_seed(0)
pictures, labels, names = [], [], []
for folder in sorted(Path(sys.argv[1]).glob('*/*/')):
    files = sorted(folder.rglob('*.png'))
    if folder.name in OURS or len(files) not in COUNTS:
        continue
    for file in files:
        picture = Image.open(file).convert('RGBA')
        picture.thumbnail((72, 72))
        ground = Image.new('RGB', (80, 80), tuple(random.choices(range(128, 256), k=3)))
        ground.paste(picture, ((80 - picture.width) // 2, (80 - picture.height) // 2), picture)
        pictures.append(np.asarray(ground))
        labels.append(len(names))
    names.append(folder.name)
pixels = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2)
labels = torch.tensor(labels)
print(f'{len(pixels)} pictures of {len(names)} classes: {" ".join(names)}')

augment = v2.Compose(
    [
        v2.RandomResizedCrop(64, scale=(0.4, 1), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
model = torchvision.models.resnet18(num_classes=len(names))
epochs, batch = 12, 32
steps = len(pixels) // batch
optimizer = torch.optim.SGD(
    model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True
)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, epochs * steps)
for epoch in range(epochs):
    right = 0
    for chosen in torch.randperm(len(pixels)).split(batch)[:steps]:
        logits = model(torch.stack([augment(pixels[n]) for n in chosen]))
        loss = torch.nn.functional.cross_entropy(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right += int((logits.argmax(1) == labels[chosen]).sum())
    print(f'epoch {epoch + 1}: {right / (steps * batch):.1%} right', flush=True)
torch.save(model.state_dict(), 'resnet18.pth')
