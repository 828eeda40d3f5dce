/* Convolutions window by window, in plain C: the definition, and what serves where no block fits. Each
 * set of kernels compiles them for its instructions. */
#ifndef WINDOWS_H
#define WINDOWS_H

#include <string.h>

#include "kernels.h"

/* Loops over what lies in registers. */
#define UNROLLED _Pragma("GCC unroll 32")

#define INLINE static inline __attribute__((always_inline))

/* Outputs whose sums are held at once. */
enum { SIDE_BY_SIDE = 64 };

/* The pixel of what is packed that window x of row y begins with. */
static inline size_t first_pixel(const struct convolution *one, int y, int x)
{
    return ((size_t)y * (size_t)one->columns + (size_t)x) * (size_t)one->stride;
}

/* Where that window begins, in numbers of all channels. */
static inline size_t window_at(const struct convolution *one, int y, int x)
{
    return first_pixel(one, y, x) * (size_t)one->c;
}

/* The same in units, and where it begins of a group. */
static inline size_t units_at(const struct convolution *one, int group, int y, int x)
{
    size_t groups = first_pixel(one, y, x) * (size_t)one->groups + (size_t)group;
    return groups * (size_t)one->units;
}

/* Place of tap k in a window. */
static inline size_t tap_at(const struct convolution *one, int k)
{
    size_t row = (size_t)(k / one->kw), column = (size_t)(k % one->kw);
    return (row * (size_t)one->columns + column) * (size_t)one->c;
}

static inline int lesser(int a, int b)
{
    return a < b ? a : b;
}

/* Blocks of an area, of so many outputs each. */
struct blocks {
    int from, to, per_group;
};

static inline struct blocks blocks_of(const struct convolution *one, struct area area, int lanes)
{
    int per_group = (one->og + lanes - 1) / lanes;
    if (one->groups > 1)
        return (struct blocks){0, one->groups * per_group, per_group};
    return (struct blocks){area.o0 / lanes, (area.o1 + lanes - 1) / lanes, per_group};
}

/* Defines NAME: kernels [k, k', in, out]. Outputs of a group side by side. */
#define CONVOLVE(NAME, SUM, INPUT, WEIGHT)                                                         \
    static void NAME(const struct convolution *one, const INPUT *packed, struct area area, float *out) \
    {                                                                                              \
        const WEIGHT *kernel = one->kernel;                                                        \
        for (int place = area.y0 * one->ow; place < area.y1 * one->ow; place++, out += one->o) {   \
            const INPUT *window = packed + window_at(one, place / one->ow, place % one->ow);       \
            for (int from = area.o0, to; from < area.o1; from = to) {                              \
                int group = from / one->og;                                                        \
                to = lesser(from + SIDE_BY_SIDE, lesser(area.o1, (group + 1) * one->og));          \
                SUM sums[SIDE_BY_SIDE] = {0};                                                      \
                for (int k = 0; k < one->kh * one->kw; k++) {                                      \
                    const INPUT *pixel = window + tap_at(one, k) + group * one->cg;                \
                    for (int c = 0; c < one->cg; c++) {                                            \
                        size_t row = (size_t)k * (size_t)one->cg + (size_t)c;                      \
                        const WEIGHT *restrict weights = kernel + row * (size_t)one->o + from;     \
                        SUM value = pixel[c];                                                      \
                        for (int i = 0; i < to - from; i++)                                        \
                            sums[i] += value * weights[i];                                         \
                    }                                                                              \
                }                                                                                  \
                for (int i = 0; i < to - from; i++)                                                \
                    out[from + i] = (float)sums[i];                                                \
            }                                                                                      \
        }                                                                                          \
    }

/* Defines NAME: kernels [k, k', channels], channels side by side. */
#define CONVOLVE_EACH(NAME, SUM, INPUT, WEIGHT)                                                    \
    static void NAME(const struct convolution *one, const INPUT *packed, struct area area, float *out) \
    {                                                                                              \
        const WEIGHT *kernel = one->kernel;                                                        \
        for (int place = area.y0 * one->ow; place < area.y1 * one->ow; place++, out += one->o) {   \
            const INPUT *window = packed + window_at(one, place / one->ow, place % one->ow);       \
            for (int from = 0; from < one->o; from += SIDE_BY_SIDE) {                              \
                int count = lesser(SIDE_BY_SIDE, one->o - from);                                   \
                SUM sums[SIDE_BY_SIDE] = {0};                                                      \
                for (int k = 0; k < one->kh * one->kw; k++) {                                      \
                    const INPUT *restrict values = window + tap_at(one, k) + from;                 \
                    const WEIGHT *restrict weights = kernel + (size_t)k * (size_t)one->o + from;   \
                    for (int i = 0; i < count; i++)                                                \
                        sums[i] += (SUM)values[i] * weights[i];                                    \
                }                                                                                  \
                for (int i = 0; i < count; i++)                                                    \
                    out[from + i] = (float)sums[i];                                                \
            }                                                                                      \
        }                                                                                          \
    }

CONVOLVE(in_whole, int32_t, int16_t, int8_t)
CONVOLVE(in_float, double, float, float)
CONVOLVE_EACH(each_in_whole, int32_t, int16_t, int8_t)
CONVOLVE_EACH(each_in_float, double, float, float)

/* The `convolve` of a set of kernels, of the forms that are not by blocks. */
static void convolve_by_window(const struct convolution *one, const void *packed, struct area area,
                               float *out)
{
    if (one->form == IN_FLOAT)
        in_float(one, packed, area, out);
    else if (one->form == EACH_IN_FLOAT)
        each_in_float(one, packed, area, out);
    else if (one->form == EACH_IN_WHOLE)
        each_in_whole(one, packed, area, out);
    else
        in_whole(one, packed, area, out);
}

#endif
