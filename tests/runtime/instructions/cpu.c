/* In place of runtime/cpu.c: a processor that has all that is emulated. */
#include "cpu.h"

unsigned cpu_features(void)
{
    return HAS_AVX2 | HAS_AVX512_VNNI | HAS_AVX_VNNI | HAS_AMX;
}

bool cpu_allows_tiles(void)
{
    return true;
}
