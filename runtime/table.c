/* Kernels and inputs of at most 2 bits as planes of signs and of small numbers: kernels.h says what
 * the form BY_TABLE is. */
#include <stdlib.h>
#include <string.h>

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

/* Takes levels and codes as the file has them; false where they do not serve. */
static bool take_levels(const struct file *file, const struct part *part, int channels,
                        struct channel_levels *levels, uint8_t *codes)
{
    const struct constant *constant = &file->constants[part->constant];
    if (constant->kind != CODED || constant->levels > LEVELS)
        return false;
    float *table = malloc((size_t)constant->levels * (size_t)channels * sizeof *table);
    if (!table)
        return false;
    part_levels(file, part, table);
    bool good = part_codes(file, part, codes);
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

/* Where output o of a group has its number in the rows of a block: halves by turns. */
static int lane_of(int o, int lanes)
{
    int place = o % lanes, half = lanes / 2;
    return place < half ? 2 * place : 2 * (place - half) + 1;
}

/* Signs of a unit of four rows of codes [4, outputs], by plane; rows that lack are NULL. */
static void unit_signs(const uint8_t *const rows[UNIT], int outputs, bool high, uint8_t *signs)
{
    memset(signs, 0, (size_t)outputs);
    for (int i = 0; i < UNIT && rows[i]; i++) {
        const uint8_t *restrict row = rows[i];
        for (int o = 0; o < outputs; o++)
            signs[o] |= (uint8_t)((high ? row[o] >> 1 : row[o] & 1) << i);
    }
}

/* Rows of signs in the order of the kernel; `room` is for one row of all outputs. */
static void set_signs(const struct convolution *one, const uint8_t *codes, int planes, int lanes,
                      uint8_t *room, uint8_t *signs)
{
    int taps = one->kh * one->kw, units = (one->cg + UNIT - 1) / UNIT;
    int blocks = (one->og + lanes - 1) / lanes;
    size_t row = (size_t)planes * (size_t)lanes, block = (size_t)(taps * units) * row;
    for (int unit = 0; unit < taps * units; unit++) {
        const uint8_t *rows[UNIT] = {NULL};
        for (int i = 0; i < UNIT && unit % units * UNIT + i < one->cg; i++)
            rows[i] = codes + (size_t)(unit / units * one->cg + unit % units * UNIT + i) * (size_t)one->o;
        for (int p = 0; p < planes; p++) {
            /* Two levels are those of the last plane. */
            unit_signs(rows, one->o, p < planes - 1, room);
            uint8_t *to = signs + (size_t)unit * row + (size_t)(p * lanes);
            for (int group = 0; group < one->groups; group++) {
                for (int o = 0; o < one->og; o++)
                    to[(size_t)(group * blocks + o / lanes) * block + (size_t)lane_of(o, lanes)] =
                        room[group * one->og + o];
            }
        }
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
                      int lanes, int planes, int32_t **constant)
{
    int blocks = (one->og + lanes - 1) / lanes, units = (one->cg + UNIT - 1) / UNIT;
    size_t outputs = (size_t)(one->groups * blocks * lanes);
    size_t signs = outputs * (size_t)(one->kh * one->kw * units * planes);
    made->table.kernel_planes = planes;
    made->kernel = pool_take(pool, signs);
    *constant = pool_take(pool, outputs * sizeof **constant);
    for (int p = 0; p < planes; p++)
        made->table.factor[p] = pool_take(pool, outputs * sizeof **constant);
    return made->kernel && *constant && made->table.factor[0] && made->table.factor[planes - 1];
}

bool table_kernel(struct lqn *net, struct prepared *made, const int8_t *whole,
                  const struct convolution *one)
{
    int lanes = net->kernels->table_lanes, planes = 1;
    size_t count = part_size(&made->part);
    struct channel_levels *levels = calloc((size_t)one->o, sizeof *levels);
    uint8_t *codes = malloc(count + (size_t)one->o);
    int32_t *constant = NULL;
    bool good = levels && codes;
    if (good && !whole)
        good = take_levels(&net->file, &made->part, one->o, levels, codes);
    else if (good)
        good = find_levels(whole, count / (size_t)one->o, one->o, levels, codes);
    for (int o = 0; good && o < one->o; o++) {
        good = are_pairs(&levels[o]);
        planes = levels[o].count > 2 ? 2 : planes;
    }
    good = good && take_room(&net->pool, made, one, lanes, planes, &constant);
    int blocks = (one->og + lanes - 1) / lanes;
    for (int o = 0; good && o < one->o; o++) {
        size_t at = (size_t)(o / one->og * blocks * lanes + o % one->og);
        set_factors(&levels[o], planes, made->table.factor, constant, at);
        if (constant[at])
            made->table.constant = constant;
    }
    if (good)
        set_signs(one, codes, planes, lanes, codes + count, made->kernel);
    free(levels);
    free(codes);
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
