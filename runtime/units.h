/* What sets of kernels with the form BY_TABLE share. Who includes this has defined `struct packer`, what
 * packing compares with; packer_of, which makes one; and eight_places, of the units of 32 inputs. */
#ifndef UNITS_H
#define UNITS_H

#include "elements.h"

/* Places of `count` units in the table, from 4 x count bytes. */
static void pack_run(const struct packer *packer, const uint8_t *bytes, size_t count, int shift,
                     uint16_t *to)
{
    for (size_t i = 0; i < count; i += 8) {
        uint8_t room[32] = {0};
        uint16_t places[8];
        const uint8_t *from = bytes + 4 * i;
        size_t left = count - i < 8 ? count - i : 8;
        if (left < 8)
            from = memcpy(room, from, 4 * left);
        eight_places(packer, from, shift, places);
        memcpy(to + i, places, left * sizeof *to);
    }
}

/* Places of units in the table, from bytes of whole numbers; where a unit lacks inputs, zeros. */
static void pack_units(const struct convolution *one, const uint8_t *x, int y0, int y1,
                       uint16_t *packed)
{
    const struct table_form *table = one->table;
    const struct packer packer = packer_of(table);
    size_t pixel = (size_t)one->units * (size_t)one->groups;
    size_t length = (size_t)one->columns * pixel;
    struct span span = seen(one);
    int shift = table->input_planes == 2 ? 5 : 4;
    uint8_t zeros[4] = {0};
    uint16_t empty;
    pack_run(&packer, zeros, 1, shift, &empty);
    for (int y = y0; y < y1; y++) {
        uint16_t *to = packed + (size_t)y * length;
        const uint8_t *row = source_row(one, x, y, 1);
        for (size_t i = 0; i < length; i++)
            to[i] = empty;
        to += (size_t)span.at * pixel;
        if (!row)
            continue;
        if (one->cg % 4 == 0) {
            pack_run(&packer, row, (size_t)span.count * pixel, shift, to);
            continue;
        }
        for (int i = 0; i < span.count * one->groups; i++, row += one->cg, to += one->units) {
            uint8_t last[4] = {0};
            size_t whole = (size_t)one->cg / 4;
            pack_run(&packer, row, whole, shift, to);
            memcpy(last, row + 4 * whole, (size_t)one->cg % 4);
            pack_run(&packer, last, 1, shift, to + whole);
        }
    }
}

/* Sum of the inputs of a window. */
static int32_t window_sum(const struct convolution *one, const uint8_t *window)
{
    const struct table_form *table = one->table;
    int32_t sum = 0;
    for (int s = 0; s < one->segments; s++) {
        const uint16_t *x = (const uint16_t *)(const void *)window + one->offsets[s];
        for (int u = 0; u < one->run; u++)
            sum += table->unit_sum[x[u] / (16 * table->input_planes)];
    }
    return sum;
}

#endif
