"""Commands of pages, made small: they run with networks of a few steps on a few small images."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.engine.importers.torch_writer import random_tensors, torchvision18, write_published
from tests.pages import Command
from tests.paths import ROOT

# What is not run here, and why.
NOT_RUN = {
    r'^make ': 'minutes to hours, and itself part of it; targets are checked',
    r'pip install|apt-get|-m venv': 'downloads',
    r'^pytest ': 'itself part of it',
    r'scripts\.study (demo|study)|scripts\.study (quantizers|bits)( --seeds|$)': 'minutes to '
    'hours; tests/scripts/test_study.py, test_quantizer_study.py and test_bits_study.py '
    'run them small',
    r'--workers|^W=': 'several machines; tests/engine/training/test_cluster.py has processes',
    r'bench peers': 'needs PyTorch; tests/scripts/test_bench_peers.py',
    r'bench NAME': 'stands for the others',
    r'--device h100': 'needs a profile of one',
    r'--backend native|scripts\.profile net\.lqn': 'needs the compiled library; '
    'tests/scripts/test_export_native.py',
    r'export RUN --cascade': 'a cascade that thresholds chose; tests/scripts/test_export.py',
    r'git clone|^cd |^\. ': 'a fresh machine',
    r'examples/': 'packages of the system: pictures, C, Node; tests/examples has tests',
    r'tests\.parity': 'tests/test_parity.py',
    r'quant\.native\.build': 'writes into the project; make setup',
}

# Small settings, added to the commands that match; flags given again win.
OWN_SETTINGS = {
    r'scripts\.thresholds .*60M': '--budget 6M',
    r'--preset rs18_w2a2': '--sizes 28 24',
    r'--holdout 1000': '--holdout 12',
    r'scripts\.prune_gates': '--share 0.51',
    r'bench train': '--steps 1 --data animals28 --arch resnet8 --sizes 16 --batch_size 2',
    r'bench data': '--images 8 --batch_size 4 --rounds 1',
    r'bench infer --net aig': '--arch resnet18 --size 64 --batches 2 --rounds 1 --rates 0.5',
    r'bench infer --net msdnet': '--preset demo-msdnet --images 4 --batches 2 --rounds 1 '
    '--budgets 0.5',
    r'bench infer --net dsnet': '--size 64 --batches 2 --rounds 1 --widths 4 0',
    r'bench quantizers': '--quick --rounds 1 --arch resnet8 --sizes 16 --batch_size 2 --data '
    'animals28',
    r'bench scaling': '--quick --only bits --rounds 1',
    r'bench deploy': '--rounds 2 --images 8',
    r'choose RUN --bitops': '--bitops 1G',
}

# In order: what a page has, and what is there.
SUBSTITUTIONS = (
    (r'--out FOLDER', '--out written'),
    (r'/data/ILSVRC2012|\bDIR\b|\bFOLDER\b', 'photos'),
    (r'photos/val/\w+', 'photos/val/cat'),
    (r'/scratch/', 'scratch/'),
    (r'--gpu 0,1,2,3', '--gpu 0,1'),
    (r'thresholds-60M', 'thresholds-6M'),
    (r'--sizes 208 --images 2000', '--sizes 16 --images 16'),
    (r'--sizes \d{3}( \d+)*', '--sizes 28 24'),
    (r'-es 160 -ep 90', '-es 24 -ep 1'),
    (r'\bs160\b', 's24'),
    (r'--shard 3/16', '--shard 1/1'),
    (r'\bs12(.)s20\b', r's20\1s24'),
    (r'train_log/demo/rs_kd_w2a2', 'train_log/rsnet'),
    (r'train_log/demo/rs_kd\b', 'train_log/float'),
    (r'\bFLOAT_RUN\b', 'train_log/float'),
    (r'\bW2A2_RUN\b', 'train_log/rsnet'),
    (r'\bW4A4_RUN\b', 'train_log/w4a4'),
)

# The run that a command is about, by what it is about, else by its page.
OF_COMMAND = {
    r'scripts\.thresholds (?!.*--cascade)': 'msdnet',
    r'scripts\.prune_gates': 'aig',
    r'--points dynamic': 'aig',
    r'scripts\.quantize': 'float',
    r'scripts\.calibrate \S+$': 'dsnet',
    r'--point w03': 'dsnet',
}
OF_PAGE = {
    'docs/bits.md': 'bits',
    'docs/cascade.md': 'cascade',
    'docs/exits.md': 'msdnet',
    'docs/gates.md': 'aig',
    'docs/native.md': 'bits',
    'docs/widths.md': 'dsnet',
}

FEW = '--steps_per_epoch 2 --batch_size 8'
RUNS = {
    'float': '--arch resnet8 --width 0.25 --sizes 28 24 20 --mode preact --epochs 1',
    'rsnet': '--arch resnet8 --width 0.25 --sizes 28 24 20 --kd --qw 2 --qa 2 --epochs 1',
    'w4a4': '--arch resnet8 --width 0.25 --sizes 28 24 20 --qw 4 --qa 4 --epochs 1',
    'bits': '--arch resnet8 --width 0.25 --sizes 28 20 12 --bits 4 2 --weight-quantizer '
    '"lq(nested=True)" --epochs 1',
    'cascade': '--arch resnet8 --width 0.25 --sizes 28 24 20 --holdout 12 --epochs 1',
    'aig': '--preset demo-aig --holdout 12 --epochs 1',
    'msdnet': '--preset demo-msdnet --holdout 12 --epochs 1',
    'dsnet': '--preset demo-dsnet --epochs 1',
}
CLASSES = ('bear', 'cat', 'dog')
COUNTS = {'train': 16, 'val': 6}
SECONDS = 900  # of a command


def runnable(commands: Sequence[Command]) -> list[str]:
    """The commands as they are run, each once."""
    found: dict[str, None] = {}
    for command in commands:
        bare = command.inline and len(command.words()) < 4
        if bare and command.words()[1] == '-m' and 'bench' not in command.text:
            continue
        if len(command.words()) < 3 or any(re.search(p, command.text) for p in NOT_RUN):
            continue
        found[small(command)] = None
    return list(found)


def small(command: Command) -> str:
    """A command with small settings."""
    text = command.text
    for pattern, replacement in SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text)
    run = OF_PAGE.get(command.page, 'rsnet')
    for pattern, name in OF_COMMAND.items():
        if re.search(pattern, command.text):
            run = name
    text = re.sub(r'\b(train_log/)?RUN\b(\.\.\.)?', f'train_log/{run}', text)
    text = text.removesuffix(' ...')
    if 'imagenet_tf.py' in text and '--eval' not in text and '--list' not in text:
        text = f'{text} {FEW} --epochs 1 -a n'
        if '--data' not in text:
            text += ' --data photos'
        if '--load' not in text and 'dsnet' not in text:
            text += ' --width 0.25'
    for pattern, flags in OWN_SETTINGS.items():
        if re.search(pattern, command.text):
            text = f'{text} {flags}'
    return text


def make_runs(folder: Path) -> Path:
    """A folder with what commands need: images, checkpoints of others, and a run of each kind."""
    rng = np.random.default_rng(0)
    listed = []
    for part, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            for number in range(count):
                path = folder / 'photos' / part / name / f'{number}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(60, size=(36, 40, 3)) + 90 * (label == np.arange(3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
                listed.append(str(path.relative_to(folder)))
    shutil.copy(folder / listed[0], folder / 'cat.jpg')
    (folder / 'images.txt').write_text('\n'.join(listed[-18:]) + '\n')
    # One to start from, with other classes, and one to be evaluated.
    for name, classes in (('resnet18.pth', 5), ('model_best.pth.tar', len(CLASSES))):
        write_published(folder / name, random_tensors(torchvision18(classes)), arch=None)
    link(folder)
    for name, flags in RUNS.items():
        command = f'python imagenet_tf.py {flags} --data photos {FEW} --logdir train_log/{name}'
        status, output = run(command, folder)
        assert status == 0, output
    status, output = run('python imagenet_tf.py --eval -ec train_log/msdnet', folder)
    assert status == 0, output
    return folder


def link(folder: Path) -> None:
    """What commands read of the project, as seen from its root."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'imagenet_tf.py').symlink_to(ROOT / 'imagenet_tf.py')
    (folder / 'engine').mkdir()
    (folder / 'engine' / 'resources').symlink_to(ROOT / 'engine' / 'resources')
    shutil.copytree(ROOT / 'docs', folder / 'docs')


def place(folder: Path, runs: Path) -> Path:
    """A folder for the commands of a page."""
    shutil.copytree(runs, folder, symlinks=True)
    return folder


def run(text: str, folder: Path) -> tuple[int, str]:
    """Exit status and output of a command."""
    programs = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        'PATH': f'{programs}:{os.environ["PATH"]}',
        'PYTHONPATH': str(ROOT),
        'XDG_CACHE_HOME': str(folder / 'cache'),
    }
    found = subprocess.run(
        ['bash', '-c', text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    return found.returncode, found.stdout
