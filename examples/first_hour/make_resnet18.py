"""Trains torchvision's ResNet-18 on clip art of other classes, for want of ImageNet's weights.

    python examples/first_hour/make_resnet18.py /usr/share/openclipart/png

It writes resnet18.pth, a state dict as torch.save writes it.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image

OURS = ('birds', 'flowers', 'fruit', 'bodypart', 'homes', 'mammals', 'money', 'roadsigns')
COUNTS = range(20, 150)
EPOCHS, BATCH = 12, 32
OUT = 'resnet18.pth'


def picture_of(file: Path) -> np.ndarray:
    """uint8 [80, 80, 3]: a drawing on a background of a random light colour."""
    drawing = Image.open(file).convert('RGBA')
    drawing.thumbnail((72, 72))
    picture = Image.new('RGB', (80, 80), tuple(random.choices(range(128, 256), k=3)))
    corner = ((80 - drawing.width) // 2, (80 - drawing.height) // 2)
    picture.paste(drawing, corner, drawing)
    return np.asarray(picture)


def read(folder: Path) -> tuple[np.ndarray, list[int], list[str]]:
    """Pictures uint8 [N, 80, 80, 3], the class of each, and the names of the classes."""
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    names: list[str] = []
    for place in sorted(folder.glob('*/*/')):
        files = sorted(place.rglob('*.png'))
        if place.name not in OURS and len(files) in COUNTS:
            pictures += map(picture_of, files)
            labels += [len(names)] * len(files)
            names.append(place.name)
    return np.array(pictures), labels, names


def train(pixels: np.ndarray, classes: list[int], count: int) -> None:
    """Trains the network, and writes it.

    Args:
        pixels: uint8 [N, 80, 80, 3].
        classes: of the pictures.
        count: of classes.
    """
    import torch
    import torchvision
    from torchvision.transforms import v2

    torch.manual_seed(0)
    images = torch.tensor(pixels).permute(0, 3, 1, 2)
    labels = torch.tensor(classes)
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(64, scale=(0.4, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    model = torchvision.models.resnet18(num_classes=count)
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, EPOCHS * steps)
    for epoch in range(EPOCHS):
        right = 0
        for chosen in torch.randperm(len(images)).split(BATCH)[:steps]:
            logits = model(torch.stack([augment(images[n]) for n in chosen]))
            loss = torch.nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[chosen]).sum())
        print(f'epoch {epoch + 1}: {right / (steps * BATCH):.1%} right', flush=True)
    torch.save(model.state_dict(), OUT)


def main() -> None:
    """Reads the clip art and trains."""
    p = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    p.add_argument('clip_art', type=Path, help='folder of Open Clip Art, as Debian installs it')
    args = p.parse_args()
    if Path(OUT).exists():
        p.error(f'{OUT}: exists; move it away')
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        p.error(f'{error}; pip install torch torchvision')
    Image.MAX_IMAGE_PIXELS = None
    random.seed(0)
    pixels, labels, names = read(args.clip_art)
    if len(pixels) < BATCH:
        p.error(f'{args.clip_art}: has no clip art; apt-get install openclipart-png')
    print(f'{len(pixels)} pictures of {len(names)} classes: {" ".join(names)}')
    train(pixels, labels, len(names))


if __name__ == '__main__':
    main()
