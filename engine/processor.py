"""The processor of this machine as the system describes it: its name, and what it can do."""

import os
import platform
from pathlib import Path

# Where Linux lists processors.
CPUINFO = Path('/proc/cpuinfo')

# Words of its lists that products of numbers are faster by, here or in programs that we export.
FEATURES = (
    *('avx', 'avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx_vnni'),
    *('avx512_bf16', 'amx_bf16', 'amx_int8'),
    *('asimd', 'asimddp', 'i8mm', 'sve', 'bf16'),
)

# Those of x86 with which sums of products of 8 bits are exact, whatever the numbers are.
VNNI = {'avx512_vnni', 'avx_vnni', 'amx_int8'}

# What platforms call it.
X86 = 'x86_64', 'amd64', 'i386', 'i686'


def _listed(cpuinfo: Path) -> str:
    try:
        return cpuinfo.read_text(errors='replace')
    except OSError:
        return ''


def name(cpuinfo: Path = CPUINFO) -> str:
    """Name of the processor; its kind where the system does not say more."""
    for line in _listed(cpuinfo).splitlines():
        key, _, value = line.partition(':')
        if key.strip() in ('model name', 'Model') and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Those of ``FEATURES`` that it has."""
    words = set(_listed(cpuinfo).split())
    return tuple(feature for feature in FEATURES if feature in words)


def adds_exactly(cpuinfo: Path = CPUINFO) -> bool:
    """Whether it adds products of 8 bits in 32: x86 without VNNI adds pairs of them in 16."""
    if platform.machine().lower() not in X86:
        return True
    return bool(VNNI & set(features(cpuinfo)))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Bytes of memory of the machine; 0 where the system does not say."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (ValueError, OSError, AttributeError):
        return 0
