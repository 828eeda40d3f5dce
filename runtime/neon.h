/* Blocks of outputs of a convolution, for NEON. */
#ifndef NEON_H
#define NEON_H

#include <arm_neon.h>
#include <string.h>

#include "windows.h"

/* Outputs of a block but those by table, and pixels of any block at most. */
enum { LANES = 16, PIXELS = 6 };

/* What a block of outputs of some pixels is computed from and where it goes. */
struct patch {
    const struct convolution *one;
    const uint8_t *window[PIXELS]; /* of a group */
    float *out[PIXELS];
    int count;           /* of pixels; the last one stands for those behind it */
    int outputs;         /* that there are */
    size_t first;        /* lane of the block */
    const void *kernel;  /* of the block */
    const int32_t *sums; /* of its weights, in the form IN_WHOLE_FOURS */
};

/* How blocks of a form are computed. */
struct way {
    void (*compute)(const struct patch *patch);
    int lanes, pixels;
    size_t unit, row; /* bytes of a unit of a pixel, and of its weights of all lanes */
};

/* neon_dot.c: of the form IN_WHOLE_FOURS, where there are dot products. */
extern const struct way NEON_DOTS;

/* Stores the numbers of the outputs that there are. */
INLINE void put(const struct patch *patch, int pixel, const float32x4_t *values, const int vectors)
{
    float room[4 * 8];
    bool whole = patch->outputs >= 4 * vectors;
    float *to = whole ? patch->out[pixel] : room;
    UNROLLED for (int i = 0; i < vectors; i++)
        vst1q_f32(to + 4 * i, values[i]);
    if (!whole)
        memcpy(patch->out[pixel], room, (size_t)patch->outputs * sizeof *room);
}

/* What the sums of four outputs start with: inputs without sign are packed minus 128. */
INLINE int32x4_t shift_of(const struct patch *patch, int vector)
{
    if (patch->one->is_signed)
        return vdupq_n_s32(0);
    return vshlq_n_s32(vld1q_s32(patch->sums + 4 * vector), 7);
}

/* Stores 16 sums. */
INLINE void put_whole(const struct patch *patch, int pixel, const int32x4_t *sums)
{
    float32x4_t values[4];
    UNROLLED for (int v = 0; v < 4; v++)
        values[v] = vcvtq_f32_s32(sums[v]);
    put(patch, pixel, values, 4);
}

/* Compilers would move loads ahead, and then spill the sums that fill the registers. */
#define IN_ORDER __asm__ volatile("" ::: "memory");

/* Calls MULTIPLY(k) for every unit of a window, whose place in x is k: four at a time, then each. */
#define ALL_UNITS(LOAD_FOUR, LOAD_ONE, MULTIPLY)                                                   \
    const uint8_t *window[PIXELS];                                                                 \
    UNROLLED for (int i = 0; i < pixels; i++)                                                      \
        window[i] = patch->window[i];                                                              \
    const int run = one->run;                                                                      \
    for (int s = 0; s < one->segments; s++) {                                                      \
        size_t at = 4 * (size_t)one->offsets[s];                                                   \
        int u = 0;                                                                                 \
        for (; u + 4 <= run; u += 4, at += 16) {                                                   \
            UNROLLED for (int i = 0; i < pixels; i++)                                              \
                x[i] = LOAD_FOUR(window[i] + at);                                                  \
            MULTIPLY(0)                                                                            \
            MULTIPLY(1)                                                                            \
            MULTIPLY(2)                                                                            \
            MULTIPLY(3)                                                                            \
        }                                                                                          \
        for (; u < run; u++, at += 4) {                                                            \
            UNROLLED for (int i = 0; i < pixels; i++)                                              \
                x[i] = LOAD_ONE(window[i] + at);                                                   \
            MULTIPLY(0)                                                                            \
        }                                                                                          \
    }

#endif
