/* Kernels for AVX-512 with VNNI: 16 outputs of a window at once, four inputs of bytes each. */
#if defined(__x86_64__)
#include <immintrin.h>

/* 24 sums, 4 vectors of a kernel and an input. */
enum { WIDE = 64, PIXELS = 6, ABREAST = 4 };

#include "dots.h"

INLINE whole add_dots(whole sums, whole inputs, whole weights)
{
    return (whole)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)inputs, (__m512i)weights);
}

INLINE floats add_products(floats sums, floats inputs, floats weights)
{
    return (floats)_mm512_fmadd_ps((__m512)inputs, (__m512)weights, (__m512)sums);
}

SUMS(whole_sums, whole, add_dots)
SUMS(float_sums, floats, add_products)
SUMS_OF(1)
SUMS_OF(2)
SUMS_OF(4)

static const struct way WAYS[] = {{4, sums_of_4}, {2, sums_of_2}, {1, sums_of_1}};

static void convolve(const struct convolution *one, const void *packed, struct area area, float *out)
{
    convolve_by_dots(one, packed, area, out, WAYS);
}

const struct kernels AVX512VNNI = {
    .name = "avx512vnni",
    .float_lanes = LANES,
    .four_lanes = LANES,
    .pack = pack,
    .convolve = convolve,
    .quantize = quantize_by_avx2,
    ELEMENTS,
};
#endif
