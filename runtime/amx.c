/* Kernels for AMX: tiles of 16 windows by 64 inputs, times 64 inputs by 16 outputs. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "vnni.h"

extern const struct kernels AVX512VNNI;

/* Rows of a tile; windows of which there are fewer are no tile's worth. */
enum { ROWS = 16, FEW_WINDOWS = 4 };

/* Palette 1: eight tiles of 16 rows of 64 bytes. */
struct configuration {
    uint8_t palette, start_row, zeros[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

static const struct configuration CONFIGURATION = {
    .palette = 1,
    .bytes = {UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT},
    .rows = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS},
};

/* One or two blocks of outputs, and windows of equal distances. */
struct strip {
    const struct convolution *one;
    const uint8_t *window; /* the first, of a group */
    size_t step;           /* bytes from window to window */
    int windows;           /* some are none: those behind the end of a row */
    const uint8_t *kernel;
    size_t next;           /* bytes from block to block */
    int outputs;           /* of the blocks, that there are */
    float *out;            /* of the first window */
    _Alignas(UNIT) int32_t start[2 * LANES]; /* of sums */
};

/* Sums of tiles: of windows from `first` on; of those behind them; of both, for the second block. */
typedef int32_t tile[ROWS][LANES];

INLINE void multiply(const struct strip *strip, int first, const bool two_rows, const bool two_blocks,
                     tile *sums)
{
    const struct convolution *one = strip->one;
    const size_t step = strip->step;
    const uint8_t *window = strip->window + (size_t)first * step, *kernel = strip->kernel;
    _tile_loadd(0, strip->start, 0);
    if (two_rows)
        _tile_loadd(1, strip->start, 0);
    if (two_blocks)
        _tile_loadd(2, strip->start + LANES, 0);
    if (two_rows && two_blocks)
        _tile_loadd(3, strip->start + LANES, 0);
    for (int s = 0; s < one->segments; s++) {
        const uint8_t *inputs = window + 4 * (size_t)one->offsets[s];
        for (int u = 0; u < one->kernel_run; u += ROWS, inputs += UNIT, kernel += ROWS * UNIT) {
            _tile_loadd(4, inputs, step);
            _tile_loadd(6, kernel, UNIT);
            _tile_dpbusd(0, 4, 6);
            if (two_rows) {
                _tile_loadd(5, inputs + ROWS * step, step);
                _tile_dpbusd(1, 5, 6);
            }
            if (two_blocks) {
                _tile_loadd(7, kernel + strip->next, UNIT);
                _tile_dpbusd(2, 4, 7);
            }
            if (two_rows && two_blocks)
                _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], UNIT);
    if (two_rows)
        _tile_stored(1, sums[1], UNIT);
    if (two_blocks)
        _tile_stored(2, sums[2], UNIT);
    if (two_rows && two_blocks)
        _tile_stored(3, sums[3], UNIT);
}

/* Stores what there is of the sums of 16 windows from `first` on. */
static void put_tile(const struct strip *strip, int first, const tile sums, int block)
{
    const struct convolution *one = strip->one;
    int outputs = lesser(LANES, strip->outputs - block * LANES);
    for (int i = 0; i < ROWS && first + i < strip->windows; i++) {
        int y = (first + i) / one->columns, x = (first + i) % one->columns;
        if (x >= one->ow)
            continue;
        float *restrict out = strip->out + (y * one->ow + x) * one->o + block * LANES;
        if (outputs == LANES) {
            for (int lane = 0; lane < LANES; lane++)
                out[lane] = (float)sums[i][lane];
        } else {
            for (int lane = 0; lane < outputs; lane++)
                out[lane] = (float)sums[i][lane];
        }
    }
}

static void compute(const struct strip *strip)
{
    _Alignas(UNIT) tile sums[4];
    bool two_blocks = strip->outputs > LANES;
    for (int first = 0; first < strip->windows; first += 2 * ROWS) {
        bool two_rows = strip->windows - first > ROWS;
        if (two_rows && two_blocks)
            multiply(strip, first, true, true, sums);
        else if (two_rows)
            multiply(strip, first, true, false, sums);
        else if (two_blocks)
            multiply(strip, first, false, true, sums);
        else
            multiply(strip, first, false, false, sums);
        for (int block = 0; block <= two_blocks; block++) {
            put_tile(strip, first, sums[2 * block], block);
            put_tile(strip, first + ROWS, sums[2 * block + 1], block);
        }
    }
}

/* The rows of an area, whose windows lie one behind the other where the stride is 1. */
static void compute_rows(struct strip *strip, const void *packed, struct area area, float *out)
{
    const struct convolution *one = strip->one;
    int together = one->stride == 1 ? area.y1 - area.y0 : 1;
    strip->windows = (together - 1) * one->columns + one->ow;
    for (int y = area.y0; y < area.y1; y += together) {
        strip->window = window_of(one, packed, y, 0);
        strip->out = out + (size_t)((y - area.y0) * one->ow) * (size_t)one->o;
        compute(strip);
    }
}

static void convolve(const struct convolution *one, const void *packed, struct area area, float *out)
{
    bool whole_tiles = one->form == IN_WHOLE_FOURS && one->kernel_run % ROWS == 0;
    if (!whole_tiles || (area.y1 - area.y0) * one->ow < FEW_WINDOWS) {
        AVX512VNNI.convolve(one, packed, area, out);
        return;
    }
    struct block_kernel kernel = block_kernel_of(one);
    struct strip strip = {.one = one, .next = kernel.block};
    strip.step = 4 * (size_t)(one->stride * one->units * one->groups);
    struct blocks blocks = blocks_of(one, area, LANES);
    _tile_loadconfig(&CONFIGURATION);
    for (int block = blocks.from, count; block < blocks.to; block += count) {
        int group = block / blocks.per_group, within = block % blocks.per_group;
        const uint8_t *inputs = (const uint8_t *)packed + 4 * group * one->units;
        count = lesser(2, blocks.per_group - within);
        strip.kernel = kernel.kernel + (size_t)block * kernel.block;
        strip.outputs = lesser(one->og - within * LANES, count * LANES);
        set_start(one, &kernel, block, count, strip.start);
        /* gcc does not know that tiles are loaded from memory. */
        __asm__ volatile("" ::"r"(&strip) : "memory");
        compute_rows(&strip, inputs, area, out + group * one->og + within * LANES);
    }
    _tile_release();
}

const struct kernels AMX = {
    .name = "amx",
    .float_lanes = LANES,
    .four_lanes = LANES,
    .tile_units = ROWS,
    .tile_windows = ROWS,
    .pack = pack,
    .convolve = convolve,
    .quantize = quantize_by_avx2,
    ELEMENTS,
};
#endif
