/* Depthwise convolutions of whole numbers for AVX2: 16 channels of 4 pixels at once. */
#ifndef AVX2_EACH_H
#define AVX2_EACH_H

#include "avx2_table.h"

enum { EACH_PIXELS = 4, EACH_LANES = 16 };

/* Where windows of pixels of a row begin, and where their results go. */
struct strip {
    const int16_t *window[EACH_PIXELS];
    float *out[EACH_PIXELS];
};

INLINE __m256i weights_at(const int8_t *weights)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)weights));
}

INLINE __m256i inputs_at(const int16_t *inputs)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)inputs);
}

/* 16 channels from `from` on. Two taps side by side make pairs, whose products are summed up; the one
 * that an odd number of taps lacks weighs nothing. */
static void each_block(const struct convolution *one, const struct strip *strip, int from)
{
    const int8_t *weights = (const int8_t *)one->kernel + from;
    __m256i low[EACH_PIXELS], high[EACH_PIXELS];
    UNROLLED for (int i = 0; i < EACH_PIXELS; i++)
        low[i] = high[i] = _mm256_setzero_si256();
    for (int k = 0; k < one->segments; k += 2) {
        bool both = k + 1 < one->segments;
        int a = one->offsets[k] + from, b = one->offsets[both ? k + 1 : k] + from;
        __m256i first = weights_at(weights + (size_t)k * (size_t)one->o), second;
        second = both ? weights_at(weights + (size_t)(k + 1) * (size_t)one->o)
                      : _mm256_setzero_si256();
        __m256i w = _mm256_unpacklo_epi16(first, second), v = _mm256_unpackhi_epi16(first, second);
        UNROLLED for (int i = 0; i < EACH_PIXELS; i++) {
            __m256i x = inputs_at(strip->window[i] + a), y = inputs_at(strip->window[i] + b);
            __m256i pairs = _mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), w);
            low[i] = _mm256_add_epi32(low[i], pairs);
            pairs = _mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), v);
            high[i] = _mm256_add_epi32(high[i], pairs);
        }
    }
    UNROLLED for (int i = 0; i < EACH_PIXELS; i++) {
        __m256i front = _mm256_permute2x128_si256(low[i], high[i], 0x20);
        __m256i back = _mm256_permute2x128_si256(low[i], high[i], 0x31);
        _mm256_storeu_ps(strip->out[i] + from, _mm256_cvtepi32_ps(front));
        _mm256_storeu_ps(strip->out[i] + from + 8, _mm256_cvtepi32_ps(back));
    }
}

/* Rows y0 to y1; pixels and channels that do not fill a block are computed twice. */
static void each_by_blocks(const struct convolution *one, const int16_t *packed, int y0, int y1,
                           float *out)
{
    for (int y = y0; y < y1; y++, out += (size_t)one->ow * (size_t)one->o) {
        for (int x = 0; x < one->ow; x += EACH_PIXELS) {
            struct strip strip;
            for (int i = 0; i < EACH_PIXELS; i++) {
                int at = lesser(x + i, one->ow - 1);
                strip.window[i] = packed + window_at(one, y, at);
                strip.out[i] = out + (size_t)at * (size_t)one->o;
            }
            for (int from = 0; from < one->o; from += EACH_LANES)
                each_block(one, &strip, lesser(from, one->o - EACH_LANES));
        }
    }
}

#endif
