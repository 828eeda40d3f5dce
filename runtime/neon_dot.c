/* Whole numbers by blocks for NEON with dot products of four bytes; the rest of this set is in neon.c. */
#if defined(__aarch64__)
/* Here, because flags that allow these instructions differ between compilers. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "neon.h"

enum { DOT_PIXELS = 5 };

INLINE int8x16_t four_units(const uint8_t *at)
{
    return vld1q_s8((const int8_t *)at);
}

INLINE int8x16_t one_unit(const uint8_t *at)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)at));
}

#define MULTIPLY_UNITS(K)                                                                          \
    UNROLLED for (int v = 0; v < 4; v++, kernel += 16) {                                           \
        int8x16_t w = vld1q_s8(kernel);                                                            \
        UNROLLED for (int i = 0; i < pixels; i++)                                                  \
            sums[i][v] = vdotq_laneq_s32(sums[i][v], w, x[i], K);                                  \
    }                                                                                              \
    IN_ORDER

/* 16 outputs of `pixels` windows in whole numbers, four inputs at a time. */
INLINE void dot_block(const struct patch *patch, const int pixels)
{
    const struct convolution *one = patch->one;
    const int8_t *kernel = patch->kernel;
    int32x4_t sums[DOT_PIXELS][4];
    int8x16_t x[DOT_PIXELS];
    UNROLLED for (int v = 0; v < 4; v++) {
        int32x4_t start = shift_of(patch, v);
        UNROLLED for (int i = 0; i < pixels; i++)
            sums[i][v] = start;
    }
    ALL_UNITS(four_units, one_unit, MULTIPLY_UNITS)
    UNROLLED for (int i = 0; i < pixels; i++)
        put_whole(patch, i, sums[i]);
}

static void dots(const struct patch *patch)
{
    if (patch->count == 1)
        dot_block(patch, 1);
    else
        dot_block(patch, DOT_PIXELS);
}

const struct way NEON_DOTS = {dots, LANES, DOT_PIXELS, 4, 4 * LANES};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
