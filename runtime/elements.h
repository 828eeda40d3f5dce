/* Functions of every number, in plain C: each set of kernels compiles them for its instructions. */
#ifndef ELEMENTS_H
#define ELEMENTS_H

#include <string.h>

#include "file.h"
#include "kernels.h"

#define BLOCKWISE(expression)                                                                  \
    for (size_t from = 0; from < n; from += period) {                                          \
        size_t count = n - from < period ? n - from : period;                                  \
        float *restrict z = x + from;                                                          \
        for (size_t i = 0; i < count; i++)                                                     \
            z[i] = expression;                                                                 \
    }

static void arithmetic(int function, float *x, size_t n, struct channels y)
{
    const float *restrict a = y.values;
    size_t period = y.period;
    if (function == ADD)
        BLOCKWISE(z[i] + a[i])
    else if (function == SUBTRACT)
        BLOCKWISE(z[i] - a[i])
    else if (function == MULTIPLY)
        BLOCKWISE(z[i] * a[i])
    else
        BLOCKWISE(z[i] / a[i])
}

static void affine(float *x, size_t n, struct channels scale, struct channels shift)
{
    const float *restrict a = scale.values;
    const float *restrict b = shift.values;
    size_t period = scale.period;
    BLOCKWISE(z[i] * a[i] + b[i])
}

static void rectify(float *x, size_t n, float most)
{
    for (size_t i = 0; i < n; i++) {
        float value = x[i] > 0 ? x[i] : 0;
        x[i] = value < most ? value : most;
    }
}

/* Of so few thresholds, comparing with all of them takes least. */
enum { FEW = 15 };

static void quantize_all(float *x, size_t n, const struct steps *steps)
{
    enum { AT_ONCE = 64 };
    for (size_t from = 0; from < n; from += AT_ONCE) {
        size_t count = n - from < AT_ONCE ? n - from : AT_ONCE;
        float found[AT_ONCE], given[AT_ONCE];
        memcpy(given, x + from, count * sizeof *x);
        memset(given + count, 0, (AT_ONCE - count) * sizeof *x);
        for (size_t i = 0; i < AT_ONCE; i++)
            found[i] = steps->levels[0];
        for (int k = 0; k < steps->count; k++) {
            float threshold = steps->thresholds[k], level = steps->levels[k + 1];
            for (size_t i = 0; i < AT_ONCE; i++)
                found[i] = given[i] > threshold ? level : found[i];
        }
        memcpy(x + from, found, count * sizeof *x);
    }
}

/* Many thresholds: a guess that is at most one off, or halving. */
static void quantize(float *x, size_t n, const struct steps *steps)
{
    if (steps->count <= FEW) {
        quantize_all(x, n, steps);
        return;
    }
    const float *thresholds = steps->thresholds;
    for (size_t i = 0; i < n; i++) {
        int low = 0, high = steps->count;
        if (steps->is_even) {
            float guess = (x[i] - steps->first) * steps->inverse;
            int place = guess > 0 ? (guess < (float)high ? (int)guess : high) : 0;
            low = place > 1 ? place - 1 : 0;
            high = place + 2 < high ? place + 2 : high;
        }
        while (low < high) {
            int middle = (low + high) / 2;
            if (thresholds[middle] < x[i])
                low = middle + 1;
            else
                high = middle;
        }
        x[i] = steps->levels[low];
    }
}

static void combine(int function, float *x, size_t n, const float *y)
{
    const float *restrict a = y;
    float *restrict z = x;
    if (function == ADD) {
        for (size_t i = 0; i < n; i++)
            z[i] = z[i] + a[i];
    } else {
        for (size_t i = 0; i < n; i++)
            z[i] = z[i] * a[i];
    }
}

static void from_bytes(float *x, size_t n, const uint8_t *bytes, bool is_signed)
{
    float *restrict z = x;
    if (is_signed) {
        const int8_t *restrict a = (const int8_t *)bytes;
        for (size_t i = 0; i < n; i++)
            z[i] = (float)a[i];
    } else {
        const uint8_t *restrict a = bytes;
        for (size_t i = 0; i < n; i++)
            z[i] = (float)a[i];
    }
}

static void to_bytes(uint8_t *bytes, size_t n, const float *x)
{
    uint8_t *restrict z = bytes;
    const float *restrict a = x;
    for (size_t i = 0; i < n; i++)
        z[i] = (uint8_t)(int32_t)a[i];
}

static void maximum(float *best, size_t n, const float *x)
{
    float *restrict z = best;
    const float *restrict a = x;
    for (size_t i = 0; i < n; i++)
        z[i] = a[i] > z[i] ? a[i] : z[i];
}

static void add_double(double *sums, size_t n, const float *x)
{
    double *restrict z = sums;
    const float *restrict a = x;
    for (size_t i = 0; i < n; i++)
        z[i] += (double)a[i];
}

/* The fields of a set of kernels that are these functions, but `quantize`. */
#define ELEMENTS                                                                               \
    .arithmetic = arithmetic, .affine = affine, .rectify = rectify, .combine = combine,        \
    .from_bytes = from_bytes, .to_bytes = to_bytes, .maximum = maximum, .add_double = add_double

/* The source row of a packed one, or NULL: zeros. */
static const uint8_t *source_row(const struct convolution *one, const void *x, int row, size_t wide)
{
    int y = row - one->top;
    if (y < 0 || y >= one->h)
        return NULL;
    return (const uint8_t *)x + (size_t)y * (size_t)one->w * (size_t)one->c * wide;
}

/* How many columns of the source are seen, and where they begin in what is packed. */
struct span {
    int count, at;
};

static struct span seen(const struct convolution *one)
{
    int count = one->columns - one->left;
    count = count < one->w ? count : one->w;
    return (struct span){count > 0 ? count : 0, one->left};
}

static void pack_floats(const struct convolution *one, const float *x, int y0, int y1, float *packed)
{
    size_t length = (size_t)one->columns * (size_t)one->c;
    struct span span = seen(one);
    for (int y = y0; y < y1; y++) {
        float *to = packed + (size_t)y * length;
        const uint8_t *row = source_row(one, x, y, sizeof *x);
        if (!row || !span.count) {
            memset(to, 0, length * sizeof *to);
            continue;
        }
        size_t before = (size_t)span.at * (size_t)one->c, count = (size_t)span.count * (size_t)one->c;
        memset(to, 0, before * sizeof *to);
        memcpy(to + before, row, count * sizeof *to);
        memset(to + before + count, 0, (length - before - count) * sizeof *to);
    }
}

static void pack_whole(const struct convolution *one, const uint8_t *x, int y0, int y1,
                       int16_t *packed)
{
    bool pairs = one->form == IN_WHOLE_PAIRS;
    int width = pairs ? 2 * one->units : one->units; /* of a group */
    size_t pixel = (size_t)width * (size_t)one->groups;
    size_t length = (size_t)one->columns * pixel;
    struct span span = seen(one);
    for (int y = y0; y < y1; y++) {
        int16_t *restrict to = packed + (size_t)y * length;
        const uint8_t *restrict row = source_row(one, x, y, 1);
        memset(to, 0, length * sizeof *to);
        if (!row)
            continue;
        to += (size_t)span.at * pixel;
        if (width == one->cg) {
            size_t count = (size_t)span.count * pixel;
            if (one->is_signed) {
                for (size_t i = 0; i < count; i++)
                    to[i] = (int8_t)row[i];
            } else {
                for (size_t i = 0; i < count; i++)
                    to[i] = row[i];
            }
            continue;
        }
        for (int i = 0; i < span.count * one->groups; i++) {
            for (int c = 0; c < one->cg; c++) {
                uint8_t byte = row[i * one->cg + c];
                to[i * width + c] = one->is_signed ? (int8_t)byte : byte;
            }
        }
    }
}

/* The `pack` of a set of kernels, of all forms but BY_TABLE. */
static void pack_numbers(const struct convolution *one, const void *x, int y0, int y1, void *packed)
{
    if (one->form == IN_FLOAT || one->form == EACH_IN_FLOAT || one->form == IN_FLOAT_BLOCKS)
        pack_floats(one, x, y0, y1, packed);
    else
        pack_whole(one, x, y0, y1, packed);
}

#endif
