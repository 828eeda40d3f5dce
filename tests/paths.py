"""Where the project, and the fixtures that it shares with other checkouts, lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared' / 'parity'
