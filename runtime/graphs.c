/* Reads and checks operations and points. */
#include "tables.h"

static const int PARTS_OF[KINDS] = {
    [ARITHMETIC] = 1, [AFFINE] = 2, [RESIZE] = 1,   [CONVOLUTION] = 1,         [DENSE] = 1,
    [QUANTIZE] = 2,   [ENCODE] = 2, [CONFIDENT] = 1, [INTEGER_CONVOLUTION] = 1, [INTEGER_DENSE] = 1,
};

int parts_of(int kind)
{
    return PARTS_OF[kind];
}

/* A tensor's number that is lower than a limit, or NONE where there may be none. */
static bool tensor(uint32_t number, int32_t limit, bool optional, int32_t *found)
{
    *found = NONE;
    if (number == NOTHING)
        return optional;
    if (limit < 0 || number >= (uint32_t)limit)
        return false;
    *found = (int32_t)number;
    return true;
}

/* The fields of an operation that computes the tensors from `out` on. */
static bool read_operation(const struct file *file, const uint8_t *at, int32_t out,
                           struct operation *one)
{
    one->kind = (int)u16_at(at);
    one->function = at[2];
    one->same = at[3] & 1;
    one->is_signed = at[3] & 2;
    one->value = (int32_t)u32_at(at + 16);
    for (int i = 0; i < 4; i++)
        one->pads[i] = (int32_t)u16_at(at + 20 + 2 * i);
    for (int i = 0; i < 2; i++) {
        one->window[i] = (int32_t)u16_at(at + 28 + 2 * i);
        one->stride[i] = (int32_t)u16_at(at + 32 + 2 * i);
    }
    uint32_t groups = u32_at(at + 36), first = u32_at(at + 40), count = u32_at(at + 44);
    if (one->kind < CAST || one->kind >= KINDS || at[3] > 3 || groups > INT32_MAX)
        return false;
    if (!tensor(u32_at(at + 4), out, false, &one->x) || !tensor(u32_at(at + 8), out, true, &one->y))
        return false;
    one->name = u32_at(at + 12);
    if (!within(file, LISTS, first, count) || !string_at(file, one->name))
        return false;
    one->groups = (int32_t)groups;
    one->first_list = (int32_t)first;
    one->lists = (int32_t)count;
    one->out = out;
    one->results = 1;
    if (one->kind == COMBINE && one->y == NONE)
        return false;
    if (one->kind == CROP && count != 9)
        return false;
    const int32_t *list = file->lists + first;
    if (one->kind == CHOOSE) {
        if (one->value < 1 || one->value > 64 || count < 1 || count % (uint32_t)one->value)
            return false;
        one->results = one->value;
    }
    if (one->kind == CHOOSE || one->kind == CONCATENATE) {
        for (uint32_t i = 0; i < count; i++) {
            if (list[i] < 0 || list[i] >= out)
                return false;
        }
    }
    return true;
}

bool read_graphs(struct file *file, struct complaint why)
{
    const uint8_t *at = table_at(file, GRAPHS);
    uint32_t end = 0;
    for (int32_t i = 0; i < file->count[GRAPHS]; i++, at += ENTRY[GRAPHS]) {
        uint32_t first = u32_at(at), count = u32_at(at + 4), inputs = u32_at(at + 8);
        /* No operation belongs to two graphs, which number tensors differently. */
        if (!within(file, OPERATIONS, first, count) || first < end || inputs < 1 ||
            inputs > MOST_INPUTS)
            return wrong(why, "is damaged: operations of graph %d", i);
        end = first + count;
        struct graph *graph = &file->graphs[i];
        *graph = (struct graph){(int32_t)first, (int32_t)count, (int32_t)inputs, 0, 0, 0};
        graph->tensors = graph->inputs;
        for (uint32_t k = 0; k < count; k++) {
            const uint8_t *entry = table_at(file, OPERATIONS) + (size_t)(first + k) * ENTRY[OPERATIONS];
            struct operation *one = &file->operations[first + k];
            if (!read_operation(file, entry, graph->tensors, one))
                return wrong(why, "is damaged: operation %u of graph %d", (unsigned)k, i);
            if (one->results > INT32_MAX - graph->tensors)
                return wrong(why, "is damaged: too many results in graph %d", i);
            one->first_part = graph->parts;
            graph->parts += parts_of(one->kind);
            graph->tensors += one->results;
        }
        if (!tensor(u32_at(at + 12), graph->tensors, false, &graph->output) ||
            u32_at(at + 16) != (uint32_t)graph->parts)
            return wrong(why, "is damaged: output or parts of graph %d", i);
    }
    return true;
}

/* Whether the blocks of the constants of a point lie in the sections that it needs. */
static bool has_its_blocks(const struct file *file, const struct point *point)
{
    for (int32_t i = 0; i < file->graphs[point->graph].parts; i++) {
        int32_t part = file->lists[point->first_part + i];
        if (part < 0 || part >= file->count[PARTS])
            return false;
        const struct constant *constant = &file->constants[file->parts[part].constant];
        if (file->blocks[constant->block].section >= point->needs)
            return false;
        for (int plane = 0; constant->kind == CODED && plane < constant->bits; plane++) {
            uint32_t first = file->codes[constant->codes].first;
            if (file->blocks[first + (uint32_t)plane].section >= point->needs)
                return false;
        }
    }
    return true;
}

bool read_points(struct file *file, struct complaint why)
{
    const uint8_t *at = table_at(file, POINTS);
    for (int32_t i = 0; i < file->count[POINTS]; i++, at += ENTRY[POINTS]) {
        uint32_t field[10];
        for (int k = 0; k < 10; k++)
            field[k] = u32_at(at + 4 * k);
        struct point *point = &file->points[i];
        point->name = string_at(file, field[0]);
        bool fits = point->name && within(file, GRAPHS, field[1], 1) && field[2] >= 1 &&
                    field[2] <= MOST_SIDE && (field[3] == 1 || field[3] == 3) && field[4] >= 1 &&
                    field[4] <= (uint32_t)file->count[SECTIONS] &&
                    within(file, CHOICES, field[6], field[7]) &&
                    within(file, LISTS, field[8], field[9]);
        if (!fits)
            return wrong(why, "is damaged: point %d", i);
        const struct graph *graph = &file->graphs[field[1]];
        if (!within(file, LISTS, field[5], (uint32_t)graph->parts) ||
            field[9] + 1 != (uint32_t)graph->inputs)
            return wrong(why, "is damaged: parts or views of point %d", i);
        *point = (struct point){point->name,       (int32_t)field[1], (int32_t)field[2],
                                (int32_t)field[3], (int32_t)field[4], (int32_t)field[5],
                                (int32_t)field[6], (int32_t)field[7], (int32_t)field[8],
                                (int32_t)field[9]};
        if (!has_its_blocks(file, point))
            return wrong(why, "is damaged: constants of point %d", i);
        for (int32_t k = 0; k < point->views; k++) {
            int32_t side = file->lists[point->first_view + k];
            if (side < 1 || side > MOST_SIDE)
                return wrong(why, "is damaged: views of point %d", i);
        }
        for (int32_t k = 0; k < point->choices; k++) {
            size_t place = (size_t)(point->first_choice + k);
            const uint8_t *entry = table_at(file, CHOICES) + place * ENTRY[CHOICES];
            struct choice *choice = &file->choices[place];
            if (!tensor(u32_at(entry + 4), graph->tensors, false, &choice->tensor))
                return wrong(why, "is damaged: choices of point %d", i);
        }
    }
    if (!file->count[POINTS])
        return wrong(why, "has no points");
    return true;
}
