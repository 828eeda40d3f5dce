/* What the sets of kernels with the form IN_WHOLE_FOURS share: kernels.h says what that is. */
#ifndef FOURS_H
#define FOURS_H

#include "elements.h"

/* Packs bytes by fours. `flip` is 128 where the sign of inputs is not what instructions want. */
static void pack_fours(const struct convolution *one, const uint8_t *x, int y0, int y1, uint8_t flip,
                       uint8_t *packed)
{
    size_t width = 4 * (size_t)one->units, pixel = width * (size_t)one->groups;
    size_t length = (size_t)one->columns * pixel, inputs = (size_t)one->cg;
    struct span span = seen(one);
    for (int y = y0; y < y1; y++) {
        uint8_t *restrict to = packed + (size_t)y * length;
        const uint8_t *restrict row = source_row(one, x, y, 1);
        memset(to, flip, length);
        if (!row)
            continue;
        to += (size_t)span.at * pixel;
        size_t runs = (size_t)span.count * (size_t)one->groups, run = inputs;
        if (width == inputs) {
            run = runs * inputs;
            runs = runs > 0;
        }
        for (size_t i = 0; i < runs; i++, row += run, to += width) {
            for (size_t k = 0; k < run; k++)
                to[k] = row[k] ^ flip;
        }
    }
}

#endif
