/* What sets of kernels share that multiply four bytes at a time, forms IN_WHOLE_FOURS and
 * IN_FLOAT_BLOCKS: in both a unit of a block of 16 outputs is 64 bytes of the kernel. Who includes this
 * has defined WIDE, the bytes of a vector; PIXELS and ABREAST, the windows and blocks whose sums fit into
 * registers; and includes `SUMS` of what adds products to sums.
 *
 * Vectors have the type of their lanes: gcc copies and spills sums of the type __m512i, whose lanes are
 * of 64 bits. */
#ifndef DOTS_H
#define DOTS_H

#include "vnni.h"

enum { PER_BLOCK = UNIT / WIDE };

typedef int whole __attribute__((vector_size(WIDE), may_alias));
typedef float floats __attribute__((vector_size(WIDE), may_alias));

/* Some windows and blocks, and where their outputs go. */
struct patch {
    const struct convolution *one;
    const uint8_t *window[PIXELS]; /* of a group */
    float *out[PIXELS];
    const uint8_t *kernel; /* of the first block */
    size_t next;           /* bytes from block to block */
    int outputs;           /* that there are */
    _Alignas(UNIT) int32_t start[ABREAST * LANES]; /* of their sums */
};

/* Stores the numbers of the outputs that there are. */
INLINE void put(const struct patch *patch, int pixel, const floats *values, const int vectors)
{
    size_t bytes = (size_t)patch->outputs * sizeof(float);
    UNROLLED for (int v = 0; v < vectors; v++) {
        float *to = patch->out[pixel] + v * WIDE / 4;
        if (bytes >= (size_t)(v + 1) * WIDE)
            memcpy(to, &values[v], WIDE);
        else if (bytes > (size_t)v * WIDE)
            memcpy(to, &values[v], bytes - (size_t)v * WIDE);
    }
}

/* Defines NAME: the outputs of `blocks` blocks of `pixels` windows. Sums have one index, and ADD adds
 * products to one. */
#define SUMS(NAME, VECTOR, ADD)                                                                    \
    INLINE void NAME(const struct patch *patch, const int pixels, const int blocks)                \
    {                                                                                              \
        const struct convolution *one = patch->one;                                                \
        const int vectors = blocks * PER_BLOCK;                                                    \
        const uint8_t *kernel = patch->kernel;                                                     \
        const VECTOR *start = (const VECTOR *)(const void *)patch->start;                          \
        VECTOR sums[PIXELS * ABREAST * PER_BLOCK];                                                 \
        UNROLLED for (int k = 0; k < pixels * vectors; k++)                                        \
            sums[k] = start[k % vectors];                                                          \
        for (int s = 0; s < one->segments; s++) {                                                  \
            const int32_t *x[PIXELS];                                                              \
            UNROLLED for (int i = 0; i < pixels; i++)                                              \
                x[i] = (const int32_t *)(const void *)patch->window[i] + one->offsets[s];          \
            for (int u = 0; u < one->run; u++, kernel += UNIT) {                                   \
                VECTOR weights[ABREAST * PER_BLOCK];                                               \
                UNROLLED for (int v = 0; v < vectors; v++) {                                       \
                    const uint8_t *block = kernel + (size_t)(v / PER_BLOCK) * patch->next;         \
                    weights[v] = ((const VECTOR *)(const void *)block)[v % PER_BLOCK];             \
                }                                                                                  \
                UNROLLED for (int k = 0; k < pixels * vectors; k++) {                              \
                    VECTOR inputs = (VECTOR)(x[k / vectors][u] + (whole){0});                      \
                    sums[k] = ADD(sums[k], inputs, weights[k % vectors]);                          \
                }                                                                                  \
            }                                                                                      \
            kernel += (size_t)(one->kernel_run - one->run) * UNIT;                                 \
        }                                                                                          \
        UNROLLED for (int i = 0; i < pixels; i++) {                                                \
            floats values[ABREAST * PER_BLOCK];                                                    \
            UNROLLED for (int v = 0; v < vectors; v++)                                             \
                values[v] = __builtin_convertvector(sums[i * vectors + v], floats);                \
            put(patch, i, values, vectors);                                                        \
        }                                                                                          \
    }

/* Sums of so many blocks, of one window or of PIXELS, each as a function of its own. */
struct way {
    int blocks;
    void (*sums)(const struct patch *patch, bool is_one, bool is_float);
};

#define SUMS_OF(BLOCKS_)                                                                           \
    static void sums_of_##BLOCKS_(const struct patch *patch, bool is_one, bool is_float)           \
    {                                                                                              \
        if (is_float && is_one)                                                                    \
            float_sums(patch, 1, BLOCKS_);                                                         \
        else if (is_float)                                                                         \
            float_sums(patch, PIXELS, BLOCKS_);                                                    \
        else if (is_one)                                                                           \
            whole_sums(patch, 1, BLOCKS_);                                                         \
        else                                                                                       \
            whole_sums(patch, PIXELS, BLOCKS_);                                                    \
    }

/* The outputs of blocks of a group, for all pixels of the rows of an area. */
static void sum_rows(struct patch *patch, const struct way *way, const uint8_t *packed,
                     struct area area, float *out)
{
    const struct convolution *one = patch->one;
    int end = area.y1 * one->ow;
    for (int place = area.y0 * one->ow, count; place < end; place += count) {
        count = lesser(PIXELS, end - place);
        /* The last window stands for those behind it. */
        for (int i = 0; i < PIXELS; i++) {
            int at = lesser(i, count - 1), pixel = place + at;
            patch->window[i] = window_of(one, packed, pixel / one->ow, pixel % one->ow);
            patch->out[i] = out + (size_t)at * (size_t)one->o;
        }
        way->sums(patch, count == 1, one->form == IN_FLOAT_BLOCKS);
        out += (size_t)count * (size_t)one->o;
    }
}

/* The `convolve` of a set; its ways have the most blocks first, and one block last. */
static void convolve_by_dots(const struct convolution *one, const void *packed, struct area area,
                             float *out, const struct way *ways)
{
    if (one->form != IN_WHOLE_FOURS && one->form != IN_FLOAT_BLOCKS) {
        AVX2.convolve(one, packed, area, out);
        return;
    }
    struct block_kernel kernel = block_kernel_of(one);
    struct blocks blocks = blocks_of(one, area, LANES);
    struct patch patch = {.one = one, .next = kernel.block};
    const struct way *way;
    for (int block = blocks.from; block < blocks.to; block += way->blocks) {
        int group = block / blocks.per_group, within = block % blocks.per_group;
        int left = lesser(blocks.per_group - within, blocks.to - block);
        for (way = ways; way->blocks > left; way++)
            ;
        patch.kernel = kernel.kernel + (size_t)block * kernel.block;
        patch.outputs = one->og - within * LANES;
        set_start(one, &kernel, block, way->blocks, patch.start);
        const uint8_t *inputs = (const uint8_t *)packed + 4 * group * one->units;
        sum_rows(&patch, way, inputs, area, out + group * one->og + within * LANES);
    }
}

#endif
