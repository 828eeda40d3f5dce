/* Kernels for NEON as every 64-bit Arm processor has it, and what those with dot products share. */
#if defined(__aarch64__)
#include "fours.h"
#include "neon_each.h"
#include "neon_table.h"

/* Pixels at once, by what is held in registers. */
enum { FLOAT_PIXELS = 5, FOUR_PIXELS = 2 };

INLINE float32x4_t four_floats(const uint8_t *at)
{
    return vld1q_f32((const float *)(const void *)at);
}

INLINE float32x4_t one_float(const uint8_t *at)
{
    return vld1q_dup_f32((const float *)(const void *)at);
}

#define MULTIPLY_FLOATS(K)                                                                         \
    UNROLLED for (int v = 0; v < 4; v++, kernel += 4) {                                            \
        float32x4_t w = vld1q_f32(kernel);                                                         \
        UNROLLED for (int i = 0; i < pixels; i++)                                                  \
            sums[i][v] = vfmaq_laneq_f32(sums[i][v], w, x[i], K);                                  \
    }                                                                                              \
    IN_ORDER

/* 16 outputs of `pixels` windows in float. */
INLINE void float_block(const struct patch *patch, const int pixels)
{
    const struct convolution *one = patch->one;
    const float *kernel = patch->kernel;
    float32x4_t sums[FLOAT_PIXELS][4], x[FLOAT_PIXELS];
    UNROLLED for (int i = 0; i < pixels; i++) {
        UNROLLED for (int v = 0; v < 4; v++)
            sums[i][v] = vdupq_n_f32(0);
    }
    ALL_UNITS(four_floats, one_float, MULTIPLY_FLOATS)
    UNROLLED for (int i = 0; i < pixels; i++)
        put(patch, i, sums[i], 4);
}

static void floats(const struct patch *patch)
{
    if (patch->count == 1)
        float_block(patch, 1);
    else
        float_block(patch, FLOAT_PIXELS);
}

static const struct way FLOATS = {floats, LANES, FLOAT_PIXELS, 4, 4 * LANES};

INLINE int8x16_t one_unit(const uint8_t *at)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)at));
}

/* Adds products of 16 bytes, of four outputs: sums of two inputs each. */
INLINE void add_products(int32x4_t *halves, int8x16_t w, int8x16_t x)
{
    halves[0] = vpadalq_s16(halves[0], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
    halves[1] = vpadalq_s16(halves[1], vmull_high_s8(w, x));
}

/* 16 outputs of `pixels` windows in whole numbers, four inputs at a time. */
INLINE void four_block(const struct patch *patch, const int pixels)
{
    const struct convolution *one = patch->one;
    const int8_t *kernel = patch->kernel;
    const uint8_t *window[FOUR_PIXELS];
    int32x4_t halves[FOUR_PIXELS][8];
    UNROLLED for (int i = 0; i < pixels; i++) {
        window[i] = patch->window[i];
        UNROLLED for (int v = 0; v < 8; v++)
            halves[i][v] = vdupq_n_s32(0);
    }
    const int run = one->run;
    for (int s = 0; s < one->segments; s++) {
        size_t at = 4 * (size_t)one->offsets[s];
        for (int u = 0; u < run; u++, at += 4) {
            int8x16_t x[FOUR_PIXELS];
            UNROLLED for (int i = 0; i < pixels; i++)
                x[i] = one_unit(window[i] + at);
            UNROLLED for (int v = 0; v < 4; v++, kernel += 16) {
                int8x16_t w = vld1q_s8(kernel);
                UNROLLED for (int i = 0; i < pixels; i++)
                    add_products(&halves[i][2 * v], w, x[i]);
                IN_ORDER
            }
        }
    }
    UNROLLED for (int i = 0; i < pixels; i++) {
        int32x4_t sums[4];
        UNROLLED for (int v = 0; v < 4; v++) {
            int32x4_t both = vpaddq_s32(halves[i][2 * v], halves[i][2 * v + 1]);
            sums[v] = vaddq_s32(both, shift_of(patch, v));
        }
        put_whole(patch, i, sums);
    }
}

static void fours(const struct patch *patch)
{
    if (patch->count == 1)
        four_block(patch, 1);
    else
        four_block(patch, FOUR_PIXELS);
}

static const struct way FOURS = {fours, LANES, FOUR_PIXELS, 4, 4 * LANES};

#define TABLE_OF(PIXELS_, KP, IP)                                                                  \
    static void table_##KP##_##IP(const struct patch *patch)                                       \
    {                                                                                              \
        table_block(patch, PIXELS_, KP, IP);                                                       \
    }
TABLE_OF(6, 1, 1)
TABLE_OF(6, 1, 2)
TABLE_OF(6, 2, 1)
TABLE_OF(3, 2, 2)

/* By planes of the kernel and of the input. */
static const struct way BY_TABLES[PLANES][PLANES] = {
    {{table_1_1, TABLE_LANES, 6, 2, TABLE_LANES}, {table_1_2, TABLE_LANES, 6, 2, TABLE_LANES}},
    {{table_2_1, TABLE_LANES, 6, 2, 2 * TABLE_LANES}, {table_2_2, TABLE_LANES, 3, 2, 2 * TABLE_LANES}},
};

/* Points a patch at pixels from `place` on. */
static void aim(struct patch *patch, const struct way *way, const void *packed, int group, int place,
                float *out)
{
    const struct convolution *one = patch->one;
    for (int i = 0; i < way->pixels; i++) {
        int at = place + lesser(i, patch->count - 1), y = at / one->ow, x = at % one->ow;
        patch->window[i] = (const uint8_t *)packed + units_at(one, group, y, x) * way->unit;
        patch->out[i] = out + (size_t)(at - place) * (size_t)one->o;
    }
}

/* All blocks of an area, each for all pixels. */
static void by_blocks(const struct convolution *one, const struct way *way, const void *packed,
                      struct area area, float *out)
{
    struct blocks blocks = blocks_of(one, area, way->lanes);
    size_t bytes = (size_t)one->segments * (size_t)one->run * way->row;
    const uint8_t *kernel = (const uint8_t *)one->kernel + (size_t)blocks.from * bytes;
    const int32_t *sums = NULL;
    if (one->form == IN_WHOLE_FOURS) {
        size_t all = (size_t)(one->groups * blocks.per_group);
        sums = (const int32_t *)(const void *)((const uint8_t *)one->kernel + bytes * all);
    }
    for (int b = blocks.from; b < blocks.to; b++, kernel += bytes) {
        int group = b / blocks.per_group, first = b % blocks.per_group * way->lanes;
        size_t lane = (size_t)(b * way->lanes);
        struct patch patch = {.one = one, .first = lane, .kernel = kernel};
        patch.sums = sums ? sums + lane : NULL;
        patch.outputs = lesser(way->lanes, one->og - first);
        float *to = out + group * one->og + first;
        for (int place = area.y0 * one->ow; place < area.y1 * one->ow; place += way->pixels) {
            patch.count = lesser(way->pixels, area.y1 * one->ow - place);
            aim(&patch, way, packed, group, place, to);
            way->compute(&patch);
            to += (size_t)patch.count * (size_t)one->o;
        }
    }
}

static void pack(const struct convolution *one, const void *x, int y0, int y1, void *packed)
{
    if (one->form == BY_TABLE)
        pack_units(one, x, y0, y1, packed);
    else if (one->form == IN_WHOLE_FOURS)
        pack_fours(one, x, y0, y1, one->is_signed ? 0 : 128, packed);
    else
        pack_numbers(one, x, y0, y1, packed);
}

/* The forms that both sets compute in the same way. */
static void convolve_otherwise(const struct convolution *one, const void *packed, struct area area,
                               float *out)
{
    if (one->form == IN_FLOAT_BLOCKS)
        by_blocks(one, &FLOATS, packed, area, out);
    else if (one->form == EACH_IN_WHOLE && one->c >= EACH_CHANNELS)
        each_whole(one, packed, area.y0, area.y1, out);
    else
        convolve_by_window(one, packed, area, out);
}

static void convolve(const struct convolution *one, const void *packed, struct area area, float *out)
{
    const struct table_form *table = one->table;
    if (one->form == IN_WHOLE_FOURS)
        by_blocks(one, &FOURS, packed, area, out);
    else if (one->form != BY_TABLE)
        convolve_otherwise(one, packed, area, out);
    else
        by_blocks(one, &BY_TABLES[table->kernel_planes - 1][table->input_planes - 1], packed, area, out);
}

static void convolve_by_dots(const struct convolution *one, const void *packed, struct area area,
                             float *out)
{
    if (one->form == IN_WHOLE_FOURS)
        by_blocks(one, &NEON_DOTS, packed, area, out);
    else
        convolve_otherwise(one, packed, area, out);
}

/* Few thresholds: compares with all of them. */
static void quantize_vectors(float *x, size_t n, const struct steps *steps)
{
    size_t i = 0;
    for (; steps->count <= FEW && i + 4 <= n; i += 4) {
        float32x4_t given = vld1q_f32(x + i), found = vdupq_n_f32(steps->levels[0]);
        for (int k = 0; k < steps->count; k++) {
            uint32x4_t above = vcgtq_f32(given, vdupq_n_f32(steps->thresholds[k]));
            found = vbslq_f32(above, vdupq_n_f32(steps->levels[k + 1]), found);
        }
        vst1q_f32(x + i, found);
    }
    quantize(x + i, n - i, steps);
}

#define SHARED                                                                                     \
    .float_lanes = LANES, .four_lanes = LANES, .pack = pack, .arithmetic = arithmetic,             \
    .affine = affine, .rectify = rectify, .quantize = quantize_vectors, .combine = combine,        \
    .from_bytes = from_bytes, .to_bytes = to_bytes, .maximum = maximum, .add_double = add_double

const struct kernels NEON = {
    .name = "neon",
    .table_lanes = TABLE_LANES,
    .convolve = convolve,
    SHARED,
};

/* A dot product is as good as a table: of 16 outputs and 4 inputs 4 instructions, like two planes. */
const struct kernels NEON_DOT = {
    .name = "neon-dot",
    .convolve = convolve_by_dots,
    SHARED,
};
#endif
