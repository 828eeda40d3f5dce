/* AMX in plain C, as Intel's manual defines it: the tiles of a thread, their configuration, and products
 * of bytes. What a processor answers with an exception ends the program with a message. */
#ifndef TILES_H
#define TILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, TILE_ROWS = 16, TILE_BYTES = 64 };

struct emulated_tile {
    int rows, bytes;
    uint8_t data[TILE_ROWS][TILE_BYTES];
};

static _Thread_local struct emulated_tile emulated_tiles[TILES];
static _Thread_local int emulated_is_configured;

#define TILE_MUST(condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "emulated tiles, %s: not so: %s\n", __func__, #condition);             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct emulated_tile *emulated_tile_at(int number)
{
    TILE_MUST(emulated_is_configured);
    TILE_MUST(number >= 0 && number < TILES);
    TILE_MUST(emulated_tiles[number].rows > 0 && emulated_tiles[number].bytes > 0);
    return &emulated_tiles[number];
}

/* LDTILECFG: palette, start row, 14 zeros, 16 x 2 bytes of a row, 16 numbers of rows. */
static void emulated_configure(const void *from)
{
    uint8_t given[64];
    memcpy(given, from, sizeof given);
    TILE_MUST(given[0] == 1);
    TILE_MUST(given[1] == 0);
    for (int i = 2; i < 16; i++)
        TILE_MUST(given[i] == 0);
    for (int i = 0; i < 16; i++) {
        int bytes = given[16 + 2 * i] | given[17 + 2 * i] << 8, rows = given[48 + i];
        TILE_MUST(i < TILES || (!bytes && !rows));
        TILE_MUST(bytes <= TILE_BYTES && rows <= TILE_ROWS);
        TILE_MUST((bytes > 0) == (rows > 0));
        if (i < TILES)
            emulated_tiles[i] = (struct emulated_tile){.rows = rows, .bytes = bytes};
    }
    emulated_is_configured = 1;
}

static void emulated_release(void)
{
    emulated_is_configured = 0;
}

static void emulated_zero(int number)
{
    struct emulated_tile *tile = emulated_tile_at(number);
    memset(tile->data, 0, sizeof tile->data);
}

static void emulated_load(int number, const void *from, size_t step)
{
    struct emulated_tile *tile = emulated_tile_at(number);
    memset(tile->data, 0, sizeof tile->data);
    for (int row = 0; row < tile->rows; row++)
        memcpy(tile->data[row], (const uint8_t *)from + (size_t)row * step, (size_t)tile->bytes);
}

static void emulated_store(int number, void *to, size_t step)
{
    const struct emulated_tile *tile = emulated_tile_at(number);
    for (int row = 0; row < tile->rows; row++)
        memcpy((uint8_t *)to + (size_t)row * step, tile->data[row], (size_t)tile->bytes);
}

/* TDPB[SU][SU]D: sums of 32 bits += fours of bytes of rows x fours of bytes of columns. */
static void emulated_products(int sums, int a, int b, int a_signed, int b_signed)
{
    struct emulated_tile *c = emulated_tile_at(sums);
    const struct emulated_tile *x = emulated_tile_at(a), *y = emulated_tile_at(b);
    TILE_MUST(sums != a && sums != b && a != b);
    TILE_MUST(c->bytes % 4 == 0 && x->bytes % 4 == 0 && y->bytes % 4 == 0);
    TILE_MUST(c->rows == x->rows && c->bytes == y->bytes && x->bytes / 4 == y->rows);
    for (int row = 0; row < c->rows; row++) {
        for (int column = 0; column < c->bytes / 4; column++) {
            uint32_t sum;
            memcpy(&sum, c->data[row] + 4 * column, 4);
            for (int k = 0; k < x->bytes; k++) {
                uint8_t left = x->data[row][k], right = y->data[k / 4][4 * column + k % 4];
                int product = a_signed ? (int8_t)left : left;
                product *= b_signed ? (int8_t)right : right;
                sum += (uint32_t)product;
            }
            memcpy(c->data[row] + 4 * column, &sum, 4);
        }
    }
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud
#define _tile_loadconfig(from) emulated_configure(from)
#define _tile_release() emulated_release()
#define _tile_zero(tile) emulated_zero(tile)
#define _tile_loadd(tile, from, step) emulated_load(tile, from, step)
#define _tile_stored(tile, to, step) emulated_store(tile, to, step)
#define _tile_dpbssd(sums, a, b) emulated_products(sums, a, b, 1, 1)
#define _tile_dpbsud(sums, a, b) emulated_products(sums, a, b, 1, 0)
#define _tile_dpbusd(sums, a, b) emulated_products(sums, a, b, 0, 1)
#define _tile_dpbuud(sums, a, b) emulated_products(sums, a, b, 0, 0)

#endif
