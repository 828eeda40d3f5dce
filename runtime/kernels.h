/* What one set of instructions computes: a table of functions for each set, chosen at load. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a convolution is computed. Rows are images of one pixel. */
enum form {
    IN_FLOAT,         /* float kernel [k, k', in, out] as it is */
    IN_FLOAT_BLOCKS,  /* float kernel by blocks of outputs */
    EACH_IN_FLOAT,    /* depthwise: [k, k', channels] */
    IN_WHOLE,         /* whole numbers, kernel int8 [k, k', in, out] as it is */
    IN_WHOLE_PAIRS,   /* kernel int16 by blocks of outputs and pairs of inputs */
    IN_WHOLE_FOURS,   /* kernel int8 by blocks of outputs and fours of inputs, see below */
    EACH_IN_WHOLE,    /* depthwise: int8 [k, k', channels] */
    BY_TABLE,         /* kernel and input of at most 2 bits, see struct table_form */
    FORMS
};

/* The most planes that a kernel or an input of the form BY_TABLE has. */
enum { PLANES = 2 };

/* Of the form IN_WHOLE_FOURS. The kernel is [groups, blocks, segments, kernel_run, lanes, 4], int8, and
 * behind it stand the sums of the weights of every output, int32 [groups, blocks, lanes]. Instructions want
 * inputs with a sign, or without one: a set that packs them plus 128, or minus 128, zeros around a window
 * too, takes 128 times this sum away again, or adds it. */

/* Of the form BY_TABLE. A unit is four inputs, of 2 bits each: one byte, whose bits 0-3 are the low
 * bits of their codes and bits 4-7 the high ones. Signs of four weights make a number of 4 bits, the
 * place in a table of the 16 sums +-v +-v +-v +-v: byte shuffles look 16 or 32 of them up at once.
 * The kernel is [groups, blocks, taps, units, planes, lanes], outputs of the two halves of a block by
 * turns.
 *
 * Twice a weight is constant[o] + sum over planes p of factor[p][o] * sign[p]; an input is sum over
 * planes q of scale[q] * v[q](code), with small whole v. */
struct table_form {
    uint8_t sums[256 * PLANES * 16]; /* [256 units, input planes, 16], plus the bias */
    int kernel_planes, input_planes;
    int bias;              /* that makes them numbers without sign */
    int chunk;             /* units whose sums fit into 8 bits */
    int32_t scale[PLANES]; /* of the planes of an input */
    int32_t unit_sum[256]; /* of the four inputs of a unit */
    uint8_t code_of[256];  /* of a byte that is an input */
    int32_t *factor[PLANES]; /* [groups, outputs of one rounded up to lanes] each */
    const int32_t *constant;       /* likewise; NULL where all are 0 */
};

/* A convolution: x [h, w, c] -> [oh, ow, o], groups of cg inputs and og outputs.
 *
 * Inputs are packed first, with zeros around: [rows, columns, groups, units], where a unit is a
 * float, an int16, a pair of int16, four bytes, or the place of a unit in the sums of table_form, uint16.
 * A window is `segments` runs of `run` units at `offsets` from its first. */
struct convolution {
    enum form form;
    int h, w, c, oh, ow, o, kh, kw, stride, top, left, groups, cg, og;
    bool is_signed;
    int units;           /* of a group of a pixel */
    int rows, columns;   /* of what is packed */
    int segments, run;
    int kernel_run;      /* units of a run of the kernel: those of whole tiles, with zeros, or `run` */
    const int32_t *offsets;
    const void *kernel;
    const struct table_form *table;
    size_t packed_bytes;
};

/* Rows y0 to y1 of the results of a convolution, and of these the outputs o0 to o1. Both are multiples of
 * APART, but the end; of several groups all outputs are computed at once. */
struct area {
    int y0, y1, o0, o1;
};

/* Outputs that no set of kernels computes faster together with further ones. */
enum { APART = 32 };

/* Numbers for every channel, repeated until `period` are there, a multiple of the channels. */
struct channels {
    const float *values;
    size_t period;
};

/* A quantizer: levels[number of thresholds below x]. */
struct steps {
    const float *thresholds, *levels;
    int count;     /* of thresholds */
    bool is_even;  /* thresholds are so nearly equidistant that a guess is at most one off */
    float first, inverse;
};

struct kernels {
    const char *name;
    /* Lanes of blocks of outputs in the forms IN_FLOAT_BLOCKS, IN_WHOLE_PAIRS, IN_WHOLE_FOURS and
     * BY_TABLE; 0: the set lacks the form. */
    int float_lanes, pair_lanes, four_lanes, table_lanes;
    /* Of the form BY_TABLE, a row of the kernel of one plane: bits of four inputs by output. NULL: in
     * plain C. */
    void (*signs)(const uint64_t bits[4], uint8_t *lanes);
    /* Units and windows that a tile has, of the form IN_WHOLE_FOURS, see kernel_run; or 0. What is packed
     * can be read so far behind its end. */
    int tile_units, tile_windows;
    /* Packs rows y0 to y1 of what a convolution reads. */
    void (*pack)(const struct convolution *one, const void *x, int y0, int y1, void *packed);
    /* An area of the results, in float [y1 - y0, ow, o]. */
    void (*convolve)(const struct convolution *one, const void *packed, struct area area, float *out);
    /* Functions of n numbers in place. */
    void (*arithmetic)(int function, float *x, size_t n, struct channels y);
    void (*affine)(float *x, size_t n, struct channels scale, struct channels shift);
    void (*rectify)(float *x, size_t n, float most);
    void (*quantize)(float *x, size_t n, const struct steps *steps);
    void (*combine)(int function, float *x, size_t n, const float *y);
    /* Bytes as float, and whole float as bytes. */
    void (*from_bytes)(float *x, size_t n, const uint8_t *bytes, bool is_signed);
    void (*to_bytes)(uint8_t *bytes, size_t n, const float *x);
    /* best = max(best, x) */
    void (*maximum)(float *best, size_t n, const float *x);
    void (*add_double)(double *sums, size_t n, const float *x);
};

/* The best set that the machine has, or the one of that name; NULL if it has none such. */
const struct kernels *kernels_of(const char *name);

#endif
