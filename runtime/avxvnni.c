/* Kernels for AVX-VNNI, which has no AVX-512: 8 outputs of a window at once, four inputs of bytes each. */
#if defined(__x86_64__)
#include <immintrin.h>

/* 12 sums, 2 vectors of a kernel and an input. */
enum { WIDE = 32, PIXELS = 6, ABREAST = 1 };

#include "dots.h"

INLINE whole add_dots(whole sums, whole inputs, whole weights)
{
    return (whole)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)inputs, (__m256i)weights);
}

INLINE floats add_products(floats sums, floats inputs, floats weights)
{
    return (floats)_mm256_fmadd_ps((__m256)inputs, (__m256)weights, (__m256)sums);
}

SUMS(whole_sums, whole, add_dots)
SUMS(float_sums, floats, add_products)
SUMS_OF(1)

static const struct way WAYS[] = {{1, sums_of_1}};

static void convolve(const struct convolution *one, const void *packed, struct area area, float *out)
{
    convolve_by_dots(one, packed, area, out, WAYS);
}

const struct kernels AVXVNNI = {
    .name = "avxvnni",
    .float_lanes = LANES,
    .four_lanes = LANES,
    .pack = pack,
    .convolve = convolve,
    .quantize = quantize_by_avx2,
    ELEMENTS,
};
#endif
