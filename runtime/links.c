/* What is done to tiles number by number, with its constants. */
#include <math.h>

#include "planner.h"

/* Channels of which numbers are repeated, and how many are there then. */
enum { SHORT = 16, LONG = 64 };

bool same_extent(const struct tensor *a, const struct tensor *b)
{
    return a->h == b->h && a->w == b->w && a->c == b->c;
}

/* The values of a part, or NULL. */
float *values_of(struct planner *planner, const struct part *part)
{
    float *values = pool_take(&planner->plan->pool, part_size(part) * sizeof *values);
    if (!values)
        wrong(planner->why, "there is not enough memory");
    else if (!part_values(&planner->net->file, part, values, planner->why))
        return NULL;
    return values;
}

/* Numbers for every channel; of few channels, repeated, so that loops over them are long. */
static bool channels_of(struct planner *planner, const struct part *part, int c,
                        struct channels *found)
{
    const float *given = values_of(planner, part);
    size_t period = c < SHORT ? (size_t)(LONG / c * c) : (size_t)c;
    float *values = pool_take(&planner->plan->pool, period * sizeof *values);
    if (!given)
        return false;
    if (!values)
        return wrong(planner->why, "there is not enough memory");
    for (size_t i = 0; i < period; i++)
        values[i] = given[part->extents[0] == 1 ? 0 : i % (size_t)c];
    *found = (struct channels){values, period};
    return true;
}

/* Whether thresholds are nearly equidistant, and how their place is guessed. */
static void guess(struct steps *steps)
{
    int count = steps->count;
    if (count < 2 || !(steps->thresholds[count - 1] > steps->thresholds[0]))
        return;
    float first = steps->thresholds[0];
    float gap = (steps->thresholds[count - 1] - first) / (float)(count - 1);
    float inverse = 1 / gap;
    if (!isfinite(inverse) || !isfinite(gap))
        return;
    for (int i = 0; i < count; i++) {
        if (fabsf((steps->thresholds[i] - first) * inverse - (float)i) > 0.25f)
            return;
    }
    steps->first = first;
    steps->inverse = inverse;
    steps->is_even = true;
}

/* The quantizer of an operation. */
static const struct steps *steps_of(struct planner *planner, const struct operation *one)
{
    const struct file *file = &planner->net->file;
    const struct part *levels = part_at(file, planner->plan->point, one, 1);
    struct steps *steps = pool_take(&planner->plan->pool, sizeof *steps);
    if (!steps)
        return NULL;
    steps->count = levels->extents[0] - 1;
    steps->thresholds = values_of(planner, part_at(file, planner->plan->point, one, 0));
    steps->levels = values_of(planner, levels);
    if (!steps->thresholds || !steps->levels)
        return NULL;
    for (int i = 0; i < steps->count; i++) {
        if (!isfinite(steps->thresholds[i]) ||
            (i && steps->thresholds[i] < steps->thresholds[i - 1])) {
            wrong(planner->why, "is damaged: thresholds do not ascend");
            return NULL;
        }
    }
    float low = one->is_signed ? -128 : 0, high = one->is_signed ? 127 : 255;
    for (int i = 0; one->kind == ENCODE && i <= steps->count; i++) {
        float level = steps->levels[i];
        if (!(level >= low && level <= high) || level != floorf(level)) {
            wrong(planner->why, "is damaged: a level is no whole number of 8 bits");
            return NULL;
        }
    }
    guess(steps);
    planner->plan->quantizers[one->out] = steps;
    return steps;
}

struct link *new_link(struct planner *planner, enum link_kind kind)
{
    struct link *link = &planner->plan->links[planner->plan->linked++];
    link->kind = kind;
    return link;
}

/* Adds what an operation does to a tile that holds the tensor `current`. */
bool add_link(struct planner *planner, const struct operation *one, int current)
{
    struct plan *plan = planner->plan;
    const struct file *file = &planner->net->file;
    const struct tensor *x = &plan->tensors[current];
    struct link *link;
    switch (one->kind) {
    case ARITHMETIC:
        link = new_link(planner, BY_CHANNEL);
        link->function = one->function;
        return channels_of(planner, part_at(file, plan->point, one, 0), x->c, &link->a);
    case AFFINE:
        link = new_link(planner, BY_AFFINE);
        return channels_of(planner, part_at(file, plan->point, one, 0), x->c, &link->a) &&
               channels_of(planner, part_at(file, plan->point, one, 1), x->c, &link->b);
    case FLIP:
        new_link(planner, BY_FLIP);
        return true;
    case ACTIVATION:
        link = new_link(planner, one->function <= RELU6 ? BY_RECTIFIER : BY_FUNCTION);
        link->function = one->function;
        link->most = one->function == RELU6 ? 6 : INFINITY;
        return true;
    case QUANTIZE:
    case ENCODE:
        link = new_link(planner, BY_STEPS);
        link->steps = steps_of(planner, one);
        return link->steps;
    case COMBINE: {
        int other = one->x == current ? one->y : one->x;
        bool full = same_extent(&plan->tensors[other], x);
        link = new_link(planner, full ? BY_TENSOR : BY_PIXEL);
        link->function = one->function;
        link->tensor = other;
        return true;
    }
    default:
        return true;
    }
}
