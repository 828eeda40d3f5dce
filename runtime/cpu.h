/* What the processor has, and the system lets programs use. */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Instructions that sets of kernels and checksums need, bits of a number. */
enum {
    HAS_AVX2 = 1,
    HAS_AVX_VNNI = 2,
    HAS_AVX512_VNNI = 4,
    HAS_AMX = 8,
    HAS_CARRY_LESS = 16, /* products */
    HAS_DOT_PRODUCTS = 32 /* of Arm */
};

/* What cpuid and xgetbv say. */
struct registers {
    uint32_t ecx1;             /* leaf 1 */
    uint32_t ebx7, ecx7, edx7; /* leaf 7 */
    uint32_t eax7_1;           /* leaf 7, its second part */
    uint64_t saved;            /* what the system saves for programs: XCR0 */
};

/* Whether all bits at these places are there. */
static inline bool all_bits(uint64_t number, uint64_t mask)
{
    return (number & mask) == mask;
}

/* Instructions that x86 has. Those of VNNI and AMX count only beside what their kernels call as well. */
static inline unsigned features_of(const struct registers *of)
{
    const uint64_t ymm = 6, zmm = 0xE6, tiles = 0x60000;
    const uint32_t carry_less = 1u << 1 | 1u << 19; /* and SSE4.1 */
    const uint32_t fma_saves = 1u << 12 | 1u << 27, avx2 = 1u << 5;
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const uint32_t vnni = 1u << 11, avx_vnni = 1u << 4, amx = 1u << 24 | 1u << 25;
    unsigned found = all_bits(of->ecx1, carry_less) ? HAS_CARRY_LESS : 0;
    if (!all_bits(of->ecx1, fma_saves) || !all_bits(of->ebx7, avx2) || !all_bits(of->saved, ymm))
        return found;
    found |= HAS_AVX2;
    if (all_bits(of->eax7_1, avx_vnni))
        found |= HAS_AVX_VNNI;
    if (!all_bits(of->ebx7, avx512) || !all_bits(of->ecx7, vnni) || !all_bits(of->saved, zmm))
        return found;
    found |= HAS_AVX512_VNNI;
    if (all_bits(of->edx7, amx) && all_bits(of->saved, tiles))
        found |= HAS_AMX;
    return found;
}

unsigned cpu_features(void);

/* Asks the system for tiles, which Linux gives no program unasked. */
bool cpu_allows_tiles(void);

#endif
