/* Kernels for AVX2 and FMA. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "avx2_each.h"
#include "avx2_table.h"

/* Units of a group of a pixel are `bytes` long. The last pixel stands for those behind it. */
static int patch_at(struct patch *patch, const void *packed, size_t bytes, int group, int first,
                    int place, int count, float *out, int y0)
{
    const struct convolution *one = patch->one;
    for (int i = 0; i < PIXELS; i++) {
        int at = place + lesser(i, count - 1), y = at / one->ow, x = at % one->ow;
        patch->window[i] = (const uint8_t *)packed + units_at(one, group, y, x) * bytes;
        patch->out[i] = out + (size_t)(at - y0 * one->ow) * (size_t)one->o + group * one->og + first;
    }
    return count;
}

/* 16 outputs of `pixels` windows in float. */
INLINE void float_block(const struct patch *patch, const float *kernel, const int pixels)
{
    const struct convolution *one = patch->one;
    __m256 sums[PIXELS][2];
    UNROLLED for (int i = 0; i < pixels; i++)
        sums[i][0] = sums[i][1] = _mm256_setzero_ps();
    for (int s = 0; s < one->segments; s++) {
        size_t offset = (size_t)one->offsets[s];
        for (int u = 0; u < one->run; u++, kernel += LANES) {
            __m256 a = _mm256_load_ps(kernel), b = _mm256_load_ps(kernel + 8);
            UNROLLED for (int i = 0; i < pixels; i++) {
                const float *x = (const float *)(const void *)patch->window[i] + offset;
                __m256 value = _mm256_broadcast_ss(x + u);
                sums[i][0] = _mm256_fmadd_ps(value, a, sums[i][0]);
                sums[i][1] = _mm256_fmadd_ps(value, b, sums[i][1]);
            }
        }
    }
    UNROLLED for (int i = 0; i < pixels; i++)
        put(patch, i, sums[i], 2);
}

/* 16 outputs of `pixels` windows in whole numbers, two inputs at a time. */
INLINE void pair_block(const struct patch *patch, const int16_t *kernel, const int pixels)
{
    const struct convolution *one = patch->one;
    __m256i sums[PIXELS][2];
    UNROLLED for (int i = 0; i < pixels; i++)
        sums[i][0] = sums[i][1] = _mm256_setzero_si256();
    for (int s = 0; s < one->segments; s++) {
        size_t offset = (size_t)one->offsets[s];
        for (int u = 0; u < one->run; u++, kernel += 2 * LANES) {
            __m256i a = _mm256_load_si256((const __m256i *)(const void *)kernel);
            __m256i b = _mm256_load_si256((const __m256i *)(const void *)(kernel + LANES));
            UNROLLED for (int i = 0; i < pixels; i++) {
                const int32_t *x = (const int32_t *)(const void *)patch->window[i] + offset;
                __m256i pair = _mm256_set1_epi32(x[u]);
                sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(pair, a));
                sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(pair, b));
            }
        }
    }
    UNROLLED for (int i = 0; i < pixels; i++) {
        __m256 values[2] = {_mm256_cvtepi32_ps(sums[i][0]), _mm256_cvtepi32_ps(sums[i][1])};
        put(patch, i, values, 2);
    }
}

/* Pixels at once, by planes of kernel and input: 12 sums are held in registers. */
static int table_pixels(const struct table_form *table)
{
    return table->kernel_planes * table->input_planes == 4 ? 3 : 6;
}

/* Makes a function of its own of each way, for as many pixels as there are registers for. */
#define FLOATS_OF(PIXELS_)                                                                         \
    static void floats_##PIXELS_(const struct patch *patch, const uint8_t *kernel)                 \
    {                                                                                              \
        float_block(patch, (const float *)(const void *)kernel, PIXELS_);                          \
    }
#define PAIRS_OF(PIXELS_)                                                                          \
    static void pairs_##PIXELS_(const struct patch *patch, const uint8_t *kernel)                  \
    {                                                                                              \
        pair_block(patch, (const int16_t *)(const void *)kernel, PIXELS_);                         \
    }
#define TABLE_OF(PIXELS_, KP, IP)                                                                  \
    static void table_##KP##_##IP(const struct patch *patch, const uint8_t *kernel, size_t at,     \
                                  int count)                                                       \
    {                                                                                              \
        table_block(patch, kernel, at, count, PIXELS_, KP, IP);                                    \
    }
FLOATS_OF(1)
FLOATS_OF(6)
PAIRS_OF(1)
PAIRS_OF(6)
TABLE_OF(6, 1, 1)
TABLE_OF(6, 1, 2)
TABLE_OF(6, 2, 1)
TABLE_OF(3, 2, 2)

static void one_block(const struct patch *patch, const uint8_t *kernel, size_t at, int count)
{
    const struct table_form *table = patch->one->table;
    if (patch->one->form == IN_FLOAT_BLOCKS)
        (count == 1 ? floats_1 : floats_6)(patch, kernel);
    else if (patch->one->form == IN_WHOLE_PAIRS)
        (count == 1 ? pairs_1 : pairs_6)(patch, kernel);
    else if (table->kernel_planes == 2)
        (table->input_planes == 2 ? table_2_2 : table_2_1)(patch, kernel, at, count);
    else
        (table->input_planes == 2 ? table_1_2 : table_1_1)(patch, kernel, at, count);
}

/* All blocks of an area, each for all pixels. */
static void by_blocks(const struct convolution *one, const void *packed, struct area area, float *out)
{
    bool table = one->form == BY_TABLE;
    int lanes = table ? TABLE_LANES : LANES;
    int pixels = table ? table_pixels(one->table) : PIXELS;
    size_t unit = table ? 2 : 4;
    /* Bytes of a block: 4 for each lane and unit, or one for each plane. */
    size_t row = (size_t)lanes * (size_t)(table ? one->table->kernel_planes : 4);
    size_t bytes = (size_t)one->segments * (size_t)one->run * row;
    struct blocks blocks = blocks_of(one, area, lanes);
    const uint8_t *kernel = (const uint8_t *)one->kernel + (size_t)blocks.from * bytes;
    struct patch patch = {.one = one};
    for (int b = blocks.from; b < blocks.to; b++, kernel += bytes) {
        int group = b / blocks.per_group, first = b % blocks.per_group * lanes;
        patch.outputs = lesser(lanes, one->og - first);
        for (int place = area.y0 * one->ow; place < area.y1 * one->ow; place += pixels) {
            int count = lesser(pixels, area.y1 * one->ow - place);
            patch_at(&patch, packed, unit, group, first, place, count, out, area.y0);
            one_block(&patch, kernel, (size_t)b * (size_t)lanes, count);
        }
    }
}

static void pack(const struct convolution *one, const void *x, int y0, int y1, void *packed)
{
    if (one->form == BY_TABLE)
        pack_units(one, x, y0, y1, packed);
    else
        pack_numbers(one, x, y0, y1, packed);
}

static void convolve(const struct convolution *one, const void *packed, struct area area, float *out)
{
    if (one->form == BY_TABLE || one->form == IN_WHOLE_PAIRS || one->form == IN_FLOAT_BLOCKS)
        by_blocks(one, packed, area, out);
    else if (one->form == EACH_IN_WHOLE && one->o >= EACH_LANES)
        each_by_blocks(one, packed, area.y0, area.y1, out);
    else
        convolve_by_window(one, packed, area, out);
}

/* Few thresholds: compares with all of them. */
static void quantize_vectors(float *x, size_t n, const struct steps *steps)
{
    size_t i = 0;
    for (; steps->count <= FEW && i + 8 <= n; i += 8) {
        __m256 given = _mm256_loadu_ps(x + i), found = _mm256_broadcast_ss(steps->levels);
        for (int k = 0; k < steps->count; k++) {
            __m256 above = _mm256_cmp_ps(given, _mm256_broadcast_ss(steps->thresholds + k), _CMP_GT_OQ);
            found = _mm256_blendv_ps(found, _mm256_broadcast_ss(steps->levels + k + 1), above);
        }
        _mm256_storeu_ps(x + i, found);
    }
    quantize(x + i, n - i, steps);
}

const struct kernels AVX2 = {
    .name = "avx2",
    .float_lanes = LANES,
    .pair_lanes = LANES,
    .table_lanes = TABLE_LANES,
    .signs = table_signs,
    .pack = pack,
    .convolve = convolve,
    .arithmetic = arithmetic,
    .affine = affine,
    .rectify = rectify,
    .quantize = quantize_vectors,
    .combine = combine,
    .from_bytes = from_bytes,
    .to_bytes = to_bytes,
    .maximum = maximum,
    .add_double = add_double,
};
#endif
