/* What sets of kernels for VNNI and AMX share: both multiply four inputs without a sign by four weights
 * with one, and take the same kernels and packed inputs. */
#ifndef VNNI_H
#define VNNI_H

#include "fours.h"
#include "windows.h"

/* Outputs of a block, and bytes of the kernel for a unit of one. */
enum { LANES = 16, UNIT = 64 };

extern const struct kernels AVX2;

/* A kernel by blocks. */
struct block_kernel {
    const uint8_t *kernel;
    const int32_t *sums; /* of the weights of every output; NULL of floats */
    size_t block;        /* bytes */
};

static inline struct block_kernel block_kernel_of(const struct convolution *one)
{
    struct block_kernel found = {.kernel = one->kernel};
    found.block = (size_t)one->segments * (size_t)one->kernel_run * UNIT;
    size_t blocks = (size_t)((one->og + LANES - 1) / LANES * one->groups);
    if (one->form == IN_WHOLE_FOURS)
        found.sums = (const int32_t *)(const void *)(found.kernel + blocks * found.block);
    return found;
}

/* What the sums of `blocks` blocks start with: inputs with a sign were packed plus 128. */
static inline void set_start(const struct convolution *one, const struct block_kernel *kernel,
                             int block, int blocks, int32_t *start)
{
    const int32_t *sums = one->is_signed ? kernel->sums : NULL;
    for (int i = 0; i < blocks * LANES; i++)
        start[i] = sums ? -128 * sums[block * LANES + i] : 0;
}

/* Where window x of row y begins in what is packed, by units of 4 bytes. */
static inline const uint8_t *window_of(const struct convolution *one, const void *packed, int y, int x)
{
    return (const uint8_t *)packed + 4 * units_at(one, 0, y, x);
}

static void pack(const struct convolution *one, const void *x, int y0, int y1, void *packed)
{
    if (one->form == IN_WHOLE_FOURS)
        pack_fours(one, x, y0, y1, one->is_signed ? 128 : 0, packed);
    else
        AVX2.pack(one, x, y0, y1, packed);
}

static void quantize_by_avx2(float *x, size_t n, const struct steps *steps)
{
    AVX2.quantize(x, n, steps);
}

#endif
