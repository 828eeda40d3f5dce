/* Kernels and inputs of at most 2 bits as planes of signs and of small numbers: kernels.h says what
 * the form BY_TABLE is. */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "network.h"

enum { LEVELS = 4, UNIT = 4, BYTE_MOST = 255, SHORT_MOST = 32767 };

/* Largest numbers of one plane: beyond SMALL two planes are faster, beyond LARGE there is no room. */
enum { SMALL = 7, LARGE = 15 };

/* The levels of an output channel, ascending; what is left of them is not used. */
struct channel_levels {
    int level[LEVELS];
    int count;
};

static bool add_level(struct channel_levels *levels, int value)
{
    int at = 0;
    while (at < levels->count && levels->level[at] < value)
        at++;
    if (at < levels->count && levels->level[at] == value)
        return true;
    if (levels->count == LEVELS)
        return false;
    memmove(levels->level + at + 1, levels->level + at, (size_t)(levels->count - at) * sizeof(int));
    levels->level[at] = value;
    levels->count++;
    return true;
}

/* Completes levels of which there are three; false where four are not two pairs of the same
 * distance. */
static bool are_pairs(struct channel_levels *levels)
{
    int *level = levels->level;
    if (levels->count == 3)
        level[3] = level[1] + level[2] - level[0];
    return levels->count < 3 || level[3] - level[2] == level[1] - level[0];
}

/* Levels of whole weights [rows, channels], and their codes; false where there are not so few. */
static bool find_levels(const int8_t *whole, size_t rows, int channels,
                        struct channel_levels *levels, uint8_t *codes)
{
    size_t count = rows * (size_t)channels;
    for (size_t i = 0; i < count; i++) {
        if (!add_level(&levels[i % (size_t)channels], whole[i]))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        const int *level = levels[i % (size_t)channels].level;
        codes[i] = 0;
        while (level[codes[i]] != whole[i])
            codes[i]++;
    }
    return true;
}

/* Bits of codes, which are signs of weights; rows along the last axis begin at `starts`. */
struct sign_rows {
    const uint8_t *plane[PLANES];
    size_t bytes; /* of a plane */
    size_t *starts;
};

/* Takes levels and planes as the file has them; false where they do not serve. */
static bool take_levels(const struct file *file, const struct part *part, int channels,
                        struct channel_levels *levels, struct sign_rows *rows)
{
    const struct constant *constant = &file->constants[part->constant];
    if (constant->kind != CODED || constant->levels > LEVELS)
        return false;
    float *table = malloc((size_t)constant->levels * (size_t)channels * sizeof *table);
    if (!table)
        return false;
    part_levels(file, part, table);
    part_rows(file, part, rows->starts);
    const struct codes *codes = &file->codes[constant->codes];
    rows->bytes = (size_t)(codes->weights + 7) / 8;
    for (int p = 0; p < constant->bits; p++)
        rows->plane[p] = file->bytes + file->blocks[codes->first + (uint32_t)p].place;
    bool good = true;
    /* Of three levels, no code is 3. */
    for (size_t i = 0; constant->levels == 3 && i < rows->bytes; i++)
        good = good && !(rows->plane[0][i] & rows->plane[1][i]);
    for (int o = 0; o < channels; o++) {
        for (int k = 0; good && k < constant->levels; k++) {
            float level = table[k * channels + o];
            good = level >= -128 && level <= 127 && level == (float)(int)level;
            levels[o].level[k] = good ? (int)level : 0;
        }
        levels[o].count = constant->levels;
    }
    free(table);
    return good;
}

/* Makes rows of signs of codes [rows, channels], in `room` for all planes. */
static void take_codes(const uint8_t *codes, size_t count, int channels, int planes, uint8_t *room,
                       struct sign_rows *rows)
{
    rows->bytes = (count + 7) / 8;
    memset(room, 0, rows->bytes * (size_t)planes);
    for (int p = 0; p < planes; p++, room += rows->bytes) {
        for (size_t i = 0; i < count; i++)
            room[i / 8] |= (uint8_t)((codes[i] >> (planes - 1 - p) & 1) << i % 8);
        rows->plane[p] = room;
    }
    for (size_t i = 0; i < count / (size_t)channels; i++)
        rows->starts[i] = i * (size_t)channels;
}

/* Up to 64 bits of a plane, from a bit on. */
static uint64_t bits_at(const struct sign_rows *rows, int plane, size_t first, int count)
{
    const uint8_t *bytes = rows->plane[plane] + first / 8;
    size_t left = rows->bytes - first / 8, shift = first % 8;
    uint8_t room[16] = {0};
    if (left < 9)
        bytes = memcpy(room, bytes, left);
    uint64_t bits = u64_at(bytes) >> shift;
    if (shift)
        bits |= (uint64_t)bytes[8] << (64 - shift);
    return count < 64 ? bits & (((uint64_t)1 << count) - 1) : bits;
}

/* A row of signs in plain C: outputs of the two halves by turns. */
static void plain_signs(const uint64_t bits[UNIT], int lanes, uint8_t *signs)
{
    for (int o = 0; o < lanes; o++) {
        int half = lanes / 2, lane = o < half ? 2 * o : 2 * (o - half) + 1;
        signs[lane] = 0;
        for (int i = 0; i < UNIT; i++)
            signs[lane] |= (uint8_t)((bits[i] >> o & 1) << i);
    }
}

/* Signs of a block of `there` outputs of a group, from the output `first` on. */
static void block_signs(const struct kernels *kernels, const struct convolution *one,
                        const struct sign_rows *rows, int planes, int first, int there,
                        uint8_t *signs)
{
    int taps = one->kh * one->kw, units = (one->cg + UNIT - 1) / UNIT;
    for (int unit = 0; unit < taps * units; unit++) {
        const size_t *starts = rows->starts + unit / units * one->cg + unit % units * UNIT;
        int inputs = one->cg - unit % units * UNIT;
        for (int p = 0; p < planes; p++, signs += kernels->table_lanes) {
            uint64_t bits[UNIT] = {0};
            for (int i = 0; i < UNIT && i < inputs; i++)
                bits[i] = bits_at(rows, p, starts[i] + (size_t)first, there);
            if (kernels->signs)
                kernels->signs(bits, signs);
            else
                plain_signs(bits, kernels->table_lanes, signs);
        }
    }
}

/* Signs in the order of the kernel. */
static void set_signs(const struct kernels *kernels, const struct convolution *one,
                      const struct sign_rows *rows, int planes, uint8_t *signs)
{
    int lanes = kernels->table_lanes, blocks = (one->og + lanes - 1) / lanes;
    int units = (one->cg + UNIT - 1) / UNIT;
    size_t block = (size_t)(one->kh * one->kw * units) * (size_t)(planes * lanes);
    for (int i = 0; i < one->groups * blocks; i++, signs += block) {
        int first = i % blocks * lanes;
        int there = one->og - first < lanes ? one->og - first : lanes;
        block_signs(kernels, one, rows, planes, i / blocks * one->og + first, there, signs);
    }
}

/* Twice a weight is constant + factor[0] * sign[0] + factor[1] * sign[1]. */
static void set_factors(const struct channel_levels *levels, int planes, int32_t *const factor[PLANES],
                        int32_t *constant, size_t at)
{
    const int *level = levels->level;
    if (levels->count == 1) {
        constant[at] = 2 * level[0];
        return;
    }
    factor[planes - 1][at] = level[1] - level[0];
    constant[at] = level[0] + level[1];
    if (levels->count > 2) {
        factor[0][at] = level[2] - level[0];
        constant[at] = level[0] + level[3];
    } else if (planes == 2) {
        /* The high sign is that of code 0 or 1: always minus. */
        factor[0][at] = 0;
    }
}

/* Memory for the kernel and the factors of a form; false where there is none. */
static bool take_room(struct pool *pool, struct prepared *made, const struct convolution *one,
                      int lanes, int planes, uint8_t **signs, int32_t **constant)
{
    int blocks = (one->og + lanes - 1) / lanes, units = (one->cg + UNIT - 1) / UNIT;
    size_t outputs = (size_t)(one->groups * blocks * lanes);
    size_t count = outputs * (size_t)(one->kh * one->kw * units * planes);
    made->table.kernel_planes = planes;
    made->kernel = *signs = pool_take(pool, count);
    *constant = pool_take(pool, outputs * sizeof **constant);
    for (int p = 0; p < planes; p++)
        made->table.factor[p] = pool_take(pool, outputs * sizeof **constant);
    return made->kernel && *constant && made->table.factor[0] && made->table.factor[planes - 1];
}

/* Levels of all outputs, and rows of signs; `room` is for codes and for planes. */
static bool read_levels(const struct lqn *net, const struct prepared *made, const int8_t *whole,
                        int channels, struct channel_levels *levels, struct sign_rows *rows,
                        uint8_t *room, int *planes)
{
    size_t count = part_size(&made->part);
    bool good = whole ? find_levels(whole, count / (size_t)channels, channels, levels, room)
                      : take_levels(&net->file, &made->part, channels, levels, rows);
    *planes = 1;
    for (int o = 0; good && o < channels; o++) {
        good = are_pairs(&levels[o]);
        *planes = levels[o].count > 2 ? 2 : *planes;
    }
    if (good && whole)
        take_codes(room, count, channels, *planes, room + count, rows);
    return good;
}

bool table_kernel(struct lqn *net, struct prepared *made, const int8_t *whole,
                  const struct convolution *one)
{
    int lanes = net->kernels->table_lanes, planes = 1;
    size_t count = part_size(&made->part);
    struct channel_levels *levels = calloc((size_t)one->o, sizeof *levels);
    size_t *starts = malloc(count / (size_t)one->o * sizeof *starts);
    uint8_t *room = whole ? malloc(2 * count + PLANES) : NULL;
    struct sign_rows rows = {.starts = starts};
    int32_t *constant = NULL;
    uint8_t *signs = NULL;
    bool good = levels && starts && (room || !whole);
    good = good && read_levels(net, made, whole, one->o, levels, &rows, room, &planes);
    good = good && take_room(&net->pool, made, one, lanes, planes, &signs, &constant);
    int blocks = (one->og + lanes - 1) / lanes;
    for (int o = 0; good && o < one->o; o++) {
        size_t at = (size_t)(o / one->og * blocks * lanes + o % one->og);
        set_factors(&levels[o], planes, made->table.factor, constant, at);
        if (constant[at])
            made->table.constant = constant;
    }
    if (good)
        set_signs(net->kernels, one, &rows, planes, signs);
    free(levels);
    free(starts);
    free(room);
    return good;
}

static int common_divisor(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

/* Planes of the values of an input, by code; false where there are none. */
static bool set_planes(struct table_form *table, const struct channel_levels *values,
                       int plane[PLANES][LEVELS])
{
    int divisor = 0, most = 0;
    for (int i = 0; i < values->count; i++)
        divisor = common_divisor(values->level[i], divisor);
    divisor = divisor ? divisor : 1;
    for (int i = 0; i < values->count; i++) {
        plane[0][i] = values->level[i] / divisor;
        most = abs(plane[0][i]) > most ? abs(plane[0][i]) : most;
    }
    const int *level = values->level;
    bool pairs = level[0] == 0 && (values->count < LEVELS || level[3] == level[1] + level[2]);
    table->input_planes = 1;
    table->scale[0] = divisor;
    table->bias = UNIT * (most ? most : 1);
    table->chunk = BYTE_MOST / (2 * table->bias);
    if (most <= SMALL || (most <= LARGE && !pairs))
        return true;
    if (!pairs)
        return false;
    table->input_planes = 2;
    table->bias = UNIT;
    table->chunk = BYTE_MOST / (2 * table->bias);
    for (int i = 0; i < LEVELS; i++) {
        plane[0][i] = i & 1;
        plane[1][i] = i >> 1;
    }
    table->scale[0] = level[1];
    table->scale[1] = values->count > 2 ? level[2] : 0;
    return true;
}

static void set_sums(struct table_form *table, const struct channel_levels *values,
                     int plane[PLANES][LEVELS])
{
    memset(table->sums, table->bias, sizeof table->sums);
    for (int unit = 0; unit < 256; unit++) {
        for (int input = 0; input < UNIT; input++) {
            int code = (unit >> input & 1) | (unit >> (UNIT + input) & 1) << 1;
            if (code >= values->count)
                continue;
            table->unit_sum[unit] += values->level[code];
            for (int q = 0; q < table->input_planes; q++) {
                uint8_t *sums = table->sums + (unit * table->input_planes + q) * 16;
                for (int signs = 0; signs < 16; signs++) {
                    int value = signs >> input & 1 ? plane[q][code] : -plane[q][code];
                    sums[signs] = (uint8_t)(sums[signs] + value);
                }
            }
        }
    }
}

/* The numbers of an input by code, zero among them; false where there are not so few. */
static bool find_values(const struct steps *encoder, struct channel_levels *values)
{
    *values = (struct channel_levels){{0}, 0};
    bool fits = add_level(values, 0);
    for (int i = 0; i <= encoder->count; i++)
        fits = fits && add_level(values, (int)encoder->levels[i]);
    return fits;
}

bool table_takes(const struct steps *encoder)
{
    struct channel_levels values;
    return find_values(encoder, &values);
}

const struct table_form *table_input(struct plan *plan, const struct prepared *made,
                                     const struct convolution *one, const struct steps *encoder)
{
    struct channel_levels values;
    bool fits = find_values(encoder, &values);
    int plane[PLANES][LEVELS] = {{0}};
    struct table_form *table = fits ? pool_take(&plan->pool, sizeof *table) : NULL;
    if (!table)
        return NULL;
    *table = made->table;
    if (!set_planes(table, &values, plane))
        return NULL;
    /* No unit is larger than the bias. */
    if ((int64_t)one->segments * one->run * table->bias > SHORT_MOST)
        return NULL;
    for (int i = 0; i < values.count; i++)
        table->code_of[(uint8_t)values.level[i]] = (uint8_t)i;
    set_sums(table, &values, plane);
    return table;
}
