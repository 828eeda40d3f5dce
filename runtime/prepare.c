/* Chooses how a convolution is computed, and brings its kernel into the order of that. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

/* Products of 8 times 8 bits of which twice the sum, see table_form, stays within 32 bits. */
enum { MOST_TERMS = 32768 };

/* The fields that follow from shapes; rows are images of one pixel. */
static void set_geometry(struct convolution *found, const struct plan *plan,
                         const struct operation *one, const struct part *kernel)
{
    const struct tensor *x = &plan->tensors[one->x], *out = &plan->tensors[one->out];
    bool dense = one->kind == DENSE || one->kind == INTEGER_DENSE;
    int pads[4] = {0};
    *found = (struct convolution){.h = x->h, .w = x->w, .c = x->c, .oh = out->h, .ow = out->w};
    found->o = out->c;
    found->kh = dense ? 1 : kernel->extents[0];
    found->kw = dense ? 1 : kernel->extents[1];
    found->stride = dense ? 1 : one->stride[0];
    found->groups = dense ? 1 : one->groups;
    if (!dense)
        pads_of(one, x, found->kh, found->kw, pads);
    found->top = pads[0];
    found->left = pads[2];
    found->cg = found->c / found->groups;
    found->og = found->o / found->groups;
    found->rows = (found->oh - 1) * found->stride + found->kh;
    found->columns = (found->ow - 1) * found->stride + found->kw;
    found->is_signed = x->storage == SIGNED_BYTES;
}

/* Bytes of a unit, and how many inputs it holds. */
static int unit_bytes(enum form form)
{
    return form == IN_WHOLE || form == EACH_IN_WHOLE || form == BY_TABLE ? 2 : 4;
}

static int unit_inputs(enum form form)
{
    if (form == IN_WHOLE_PAIRS)
        return 2;
    return form == IN_WHOLE_FOURS || form == BY_TABLE ? 4 : 1;
}

static bool is_by_blocks(enum form form)
{
    return form == IN_FLOAT_BLOCKS || form == IN_WHOLE_PAIRS || form == IN_WHOLE_FOURS ||
           form == BY_TABLE;
}

/* Of one group, a row of a window is one run; of several, a pixel is. */
static void set_runs(const struct kernels *kernels, struct convolution *found)
{
    bool rows = found->groups == 1;
    found->units = divided(found->cg, unit_inputs(found->form));
    found->segments = rows ? found->kh : found->kh * found->kw;
    found->run = rows ? found->kw * found->units : found->units;
    found->kernel_run = found->run;
    /* Of shorter runs most would be zeros. */
    int at_once = found->form == IN_WHOLE_FOURS ? kernels->tile_units : 0;
    if (at_once && 4 * found->run >= at_once)
        found->kernel_run = divided(found->run, at_once) * at_once;
}

/* Bytes that tiles of the last window read, and of windows behind it. */
static size_t behind(const struct kernels *kernels, const struct convolution *one)
{
    size_t step = (size_t)one->stride * (size_t)(one->units * one->groups);
    return 4 * ((size_t)kernels->tile_windows * step + (size_t)kernels->tile_units);
}

/* Where the runs of a window begin. */
static bool set_window(struct plan *plan, const struct kernels *kernels, struct convolution *found)
{
    int pixel = found->units * found->groups;
    uint64_t units = (uint64_t)found->rows * (uint64_t)found->columns * (uint64_t)pixel;
    if (units > INT32_MAX / 8)
        return false;
    found->packed_bytes = (size_t)units * (size_t)unit_bytes(found->form);
    if (found->form == IN_WHOLE_FOURS)
        found->packed_bytes += behind(kernels, found);
    int32_t *offsets = pool_take(&plan->pool, (size_t)found->segments * sizeof *offsets);
    for (int i = 0; offsets && i < found->segments; i++) {
        int tap = i * (found->kh * found->kw / found->segments);
        offsets[i] = (tap / found->kw * found->columns + tap % found->kw) * pixel;
    }
    found->offsets = offsets;
    return offsets;
}

/* Place of a weight in [k, k', in, out]. */
static size_t weight_at(const struct convolution *one, int tap, int c, int o)
{
    return ((size_t)tap * (size_t)one->cg + (size_t)c) * (size_t)one->o + (size_t)o;
}

/* [groups, blocks, taps, inputs, lanes] of float. */
static void *float_blocks(struct pool *pool, const struct convolution *one, const float *values,
                          int lanes)
{
    int blocks = divided(one->og, lanes), taps = one->kh * one->kw;
    size_t count = (size_t)one->groups * (size_t)blocks * (size_t)taps * (size_t)one->cg;
    float *made = pool_take(pool, count * (size_t)lanes * sizeof *made), *to = made;
    for (int i = 0; made && i < one->groups * blocks; i++) {
        int first = i % blocks * lanes, group = i / blocks;
        int there = one->og - first < lanes ? one->og - first : lanes;
        for (int tap = 0; tap < taps; tap++) {
            for (int c = 0; c < one->cg; c++, to += lanes)
                memcpy(to, values + weight_at(one, tap, c, group * one->og + first),
                       (size_t)there * sizeof *to);
        }
    }
    return made;
}

/* Weights of a unit, [lanes, inputs], from rows [inputs, o]; `sums` is NULL where they are int16. */
static void set_unit(const int8_t *rows, int o, int inputs, int outputs, void *unit, int32_t *sums)
{
    int8_t *bytes = unit;
    int16_t *shorts = unit;
    for (int i = 0; i < outputs; i++) {
        for (int k = 0; k < inputs; k++) {
            int8_t weight = rows[(size_t)k * (size_t)o + (size_t)i];
            if (sums)
                bytes[i * 4 + k] = weight;
            else
                shorts[i * 2 + k] = weight;
            if (sums)
                sums[i] += weight;
        }
    }
}

/* [groups, blocks, segments, kernel_run, lanes, inputs] of int16 pairs; or of int8 fours, and sums. */
static void *unit_blocks(struct pool *pool, const struct convolution *one, const int8_t *values,
                         int lanes)
{
    bool fours = one->form == IN_WHOLE_FOURS;
    int inputs = unit_inputs(one->form), units = divided(one->cg, inputs);
    int blocks = divided(one->og, lanes), rows = one->segments * one->kernel_run;
    size_t row = (size_t)(4 * lanes), count = (size_t)(one->groups * blocks) * (size_t)rows * row;
    size_t behind = fours ? (size_t)(one->groups * blocks) * row : 0;
    uint8_t *made = pool_take(pool, count + behind);
    for (int i = 0; made && i < one->groups * blocks; i++) {
        int first = i % blocks * lanes, group = i / blocks;
        int there = one->og - first < lanes ? one->og - first : lanes;
        int32_t *sums = fours ? (int32_t *)(void *)(made + count) + i * lanes : NULL;
        for (int k = 0; k < one->segments * one->run; k++) {
            int c = k % units * inputs, left = one->cg - c;
            int at = k / one->run * one->kernel_run + k % one->run;
            uint8_t *to = made + ((size_t)i * (size_t)rows + (size_t)at) * row;
            const int8_t *from = values + weight_at(one, k / units, c, group * one->og + first);
            set_unit(from, one->o, left < inputs ? left : inputs, there, to, sums);
        }
    }
    return made;
}

/* Whole numbers of 8 bits; NULL where they are none. */
static int8_t *whole_numbers(struct pool *pool, const float *values, size_t count)
{
    int8_t *made = pool_take(pool, count);
    for (size_t i = 0; made && i < count; i++) {
        if (!(values[i] >= -128 && values[i] <= 127) || values[i] != floorf(values[i]))
            return NULL;
        made[i] = (int8_t)values[i];
    }
    return made;
}

static bool same_part(const struct part *a, const struct part *b)
{
    return a->constant == b->constant && !memcmp(a->extents, b->extents, sizeof a->extents);
}

/* The kernel of a form that another point, or layer, has asked for; NULL if none has. Rows and
 * images can read one part: what are inputs and outputs of the one are a window of the other. */
static struct prepared *known(const struct lqn *net, const struct part *part,
                              const struct convolution *one)
{
    for (size_t i = 0; i < net->prepared_count; i++) {
        struct prepared *made = &net->prepared[i];
        bool same = made->form == one->form && made->groups == one->groups;
        if (same && made->taps == one->kh * one->kw && same_part(&made->part, part))
            return made;
    }
    return NULL;
}

/* A free entry for a kernel. */
static struct prepared *entry(struct lqn *net, const struct part *part,
                              const struct convolution *one)
{
    size_t room = (net->prepared_count + 1) * sizeof *net->prepared;
    struct prepared *entries = realloc(net->prepared, room);
    if (!entries)
        return NULL;
    net->prepared = entries;
    entries[net->prepared_count] = (struct prepared){
        .part = *part, .form = one->form, .groups = one->groups, .taps = one->kh * one->kw};
    return &entries[net->prepared_count];
}

/* Brings a kernel into the order of a form; `values` and `whole` are [k, k', in, out]. */
static bool fill(struct lqn *net, struct prepared *made, const struct convolution *one,
                 const float *values, int8_t *whole)
{
    switch (made->form) {
    case IN_FLOAT_BLOCKS:
        made->kernel = float_blocks(&net->pool, one, values, net->kernels->float_lanes);
        break;
    case IN_WHOLE_PAIRS:
        made->kernel = unit_blocks(&net->pool, one, whole, net->kernels->pair_lanes);
        break;
    case IN_WHOLE_FOURS:
        made->kernel = unit_blocks(&net->pool, one, whole, net->kernels->four_lanes);
        break;
    case BY_TABLE:
        return table_kernel(net, made, whole, one);
    default:
        made->kernel = whole ? (const void *)whole : (const void *)values;
    }
    return made->kernel;
}

/* Reads the weights of a kernel and makes it; what the kernel does not keep is given back. */
static bool make_kernel(struct lqn *net, struct prepared *made, const struct convolution *one,
                        bool is_whole, struct complaint why)
{
    size_t count = part_size(&made->part);
    struct pool scratch = {0};
    bool moves = is_by_blocks(one->form);
    struct pool *kept = moves ? &scratch : &net->pool;
    const float *values = moves ? part_in_place(&net->file, &made->part) : NULL;
    int8_t *whole = NULL;
    bool good = true;
    if (!values) {
        float *read = pool_take(is_whole ? &scratch : kept, count * sizeof *read);
        good = read || wrong(why, "there is not enough memory");
        good = good && part_values(&net->file, &made->part, read, why);
        values = read;
    }
    if (good && is_whole) {
        whole = whole_numbers(kept, values, count);
        good = whole || wrong(why, "is damaged: a weight is no whole number of 8 bits");
    }
    good = good && fill(net, made, one, values, whole);
    pool_free(&scratch);
    return good;
}

/* Makes the kernel of the form of a convolution, unless it is known; NULL where it has none. */
static struct prepared *kernel_of(struct lqn *net, const struct part *part,
                                  const struct convolution *one, bool is_whole, struct complaint why)
{
    struct prepared *made = known(net, part, one);
    if (made)
        return made->kernel ? made : NULL;
    made = entry(net, part, one);
    if (!made)
        return NULL;
    /* Codes of the file are signs already, mostly. */
    bool good = one->form == BY_TABLE && table_kernel(net, made, NULL, one);
    good = good || make_kernel(net, made, one, is_whole, why);
    if (!good)
        made->kernel = NULL;
    /* That weights are not for tables is remembered, too: other points need not find it again. */
    net->prepared_count += good || one->form == BY_TABLE;
    return good ? made : NULL;
}

/* The forms that a convolution can have, the best first, ended by FORMS. */
static void forms_of(const struct lqn *net, const struct convolution *one, bool is_whole,
                     enum form forms[5])
{
    int count = 0;
    bool each = one->cg == 1 && one->og == 1 && one->groups > 1;
    const struct kernels *kernels = net->kernels;
    if (each) {
        forms[count++] = is_whole ? EACH_IN_WHOLE : EACH_IN_FLOAT;
    } else if (is_whole) {
        if (kernels->table_lanes)
            forms[count++] = BY_TABLE;
        if (kernels->four_lanes)
            forms[count++] = IN_WHOLE_FOURS;
        if (kernels->pair_lanes)
            forms[count++] = IN_WHOLE_PAIRS;
        forms[count++] = IN_WHOLE;
    } else {
        if (kernels->float_lanes)
            forms[count++] = IN_FLOAT_BLOCKS;
        forms[count++] = IN_FLOAT;
    }
    forms[count] = FORMS;
}

struct convolution *convolution_make(struct lqn *net, struct plan *plan, const struct operation *one,
                                     struct complaint why)
{
    const struct part *part = part_at(&net->file, plan->point, one, 0);
    struct convolution *found = pool_take(&plan->pool, sizeof *found);
    bool is_whole = one->kind == INTEGER_CONVOLUTION || one->kind == INTEGER_DENSE;
    if (!found) {
        wrong(why, "there is not enough memory");
        return NULL;
    }
    set_geometry(found, plan, one, part);
    if (is_whole && (int64_t)found->kh * found->kw * found->cg > MOST_TERMS) {
        wrong(why, "has sums of more than %d products", MOST_TERMS);
        return NULL;
    }
    const struct operation *encoder = plan->tensors[one->x].encoder;
    const struct steps *steps = encoder ? plan->quantizers[encoder->out] : NULL;
    enum form forms[5];
    forms_of(net, found, is_whole, forms);
    for (int i = 0; forms[i] != FORMS; i++) {
        found->form = forms[i];
        if (found->form == BY_TABLE && !(steps && table_takes(steps)))
            continue;
        wrong(why, "there is not enough memory");
        set_runs(net->kernels, found);
        const struct prepared *made = kernel_of(net, part, found, is_whole, why);
        if (!made && found->form == BY_TABLE)
            continue;
        if (!made || !set_window(plan, net->kernels, found))
            return NULL;
        found->kernel = made->kernel;
        if (found->form != BY_TABLE)
            return found;
        found->table = table_input(plan, made, found, steps);
        if (found->table)
            return found;
    }
    return NULL;
}
