/* Makes steps of the operations of a point: each computes tiles of a few rows, does to them all that
 * goes number by number while they are in the cache, and stores what others read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

enum { ALIGNED = 64, TILE_PIXELS = 48, TILE_NUMBERS = 1 << 15, SHORT = 16, LONG = 64 };

static const size_t MOST_MEMORY = (size_t)1 << 31;

void *pool_take(struct pool *pool, size_t size)
{
    if (pool->count == pool->room) {
        size_t room = pool->room ? 2 * pool->room : 64;
        void **items = realloc(pool->items, room * sizeof *items);
        if (!items)
            return NULL;
        pool->items = items;
        pool->room = room;
    }
    size_t whole = (size + ALIGNED) / ALIGNED * ALIGNED;
    void *memory = whole > size ? aligned_alloc(ALIGNED, whole) : NULL;
    if (memory) {
        memset(memory, 0, whole);
        pool->items[pool->count++] = memory;
    }
    return memory;
}

void pool_free(struct pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        free(pool->items[i]);
    free(pool->items);
    *pool = (struct pool){0};
}

/* Makes the plan of one point. */
struct planner {
    struct lqn *net;
    struct plan *plan;
    bool *absorbed; /* operations that are links of steps */
    struct complaint why;
};

static const struct operation *operation_at(const struct planner *planner, int index)
{
    return &planner->net->file.operations[planner->plan->graph->first + index];
}

/* The values of a part, or NULL. */
static float *values_of(struct planner *planner, const struct part *part)
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
    if (!given || !values)
        return wrong(planner->why, "constants cannot be read");
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

/* Whether an operation goes number by number. */
static bool is_link(const struct operation *one)
{
    switch (one->kind) {
    case CAST:
    case ARITHMETIC:
    case AFFINE:
    case FLIP:
    case ACTIVATION:
    case QUANTIZE:
    case ENCODE:
    case COMBINE:
    case TO_ROWS:
    case TO_IMAGES:
        return true;
    default:
        return false;
    }
}

static bool same_extent(const struct tensor *a, const struct tensor *b)
{
    return a->h == b->h && a->w == b->w && a->c == b->c;
}

/* The first operation that goes on with a tensor number by number; NULL if none does. */
static const struct operation *next_link(const struct planner *planner, int current, int *index)
{
    const struct plan *plan = planner->plan;
    for (int i = 0; i < plan->graph->count; i++) {
        const struct operation *one = operation_at(planner, i);
        bool reads = one->x == current || (one->kind == COMBINE && one->y == current);
        if (planner->absorbed[i] || !reads || !is_link(one))
            continue;
        if (one->kind == COMBINE) {
            int other = one->x == current ? one->y : one->x;
            if (other == current || plan->tensors[other].made == NONE)
                continue;
            if (!same_extent(&plan->tensors[one->out], &plan->tensors[current]))
                continue;
        }
        *index = i;
        return one;
    }
    return NULL;
}

static struct link *new_link(struct planner *planner, enum link_kind kind)
{
    struct link *link = &planner->plan->links[planner->plan->linked++];
    link->kind = kind;
    return link;
}

/* Adds what an operation does to a tile that holds the tensor `current`. */
static bool add_link(struct planner *planner, const struct operation *one, int current)
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

static void store(struct planner *planner, int tensor)
{
    struct plan *plan = planner->plan;
    new_link(planner, STORED)->tensor = tensor;
    plan->tensors[tensor].made = plan->count;
    plan->tensors[tensor].last = plan->count;
    plan->tensors[tensor].stored = true;
}

/* Adds links to the step that is being made, as long as there are any. */
static bool add_links(struct planner *planner, int current)
{
    struct plan *plan = planner->plan;
    struct step *step = &plan->steps[plan->count];
    step->first_link = plan->linked;
    for (;;) {
        int index = 0;
        const struct operation *one = next_link(planner, current, &index);
        /* The images are there; of all others, what is read again is stored. */
        bool given = current < plan->graph->inputs || plan->tensors[current].stored;
        if (!given && (!one || plan->tensors[current].readers > 1))
            store(planner, current);
        if (!one)
            break;
        if (!add_link(planner, one, current))
            return false;
        planner->absorbed[index] = true;
        current = one->out;
    }
    step->links = plan->linked - step->first_link;
    return true;
}

/* Where the numbers of each row of shares are not zero; NULL where there is no memory. */
static const struct band *bands_of(struct planner *planner, const float *shares, int rows,
                                   int columns)
{
    struct band *bands = pool_take(&planner->plan->pool, (size_t)rows * sizeof *bands);
    for (int i = 0; bands && i < rows; i++, shares += columns) {
        struct band *band = &bands[i];
        for (int k = columns - 1; k >= 0; k--) {
            if (shares[k] == 0)
                continue;
            band->from = k;
            band->to = band->to ? band->to : k + 1;
        }
    }
    return bands;
}

/* Rows of a tile: as many pixels as a kernel that is loaded is worth, as few as the cache takes. */
static int tile_rows(const struct step *step)
{
    int64_t row = (int64_t)step->w * step->c;
    int rows = 1;
    while (rows < step->h && rows * step->w < TILE_PIXELS && (rows + 1) * row <= TILE_NUMBERS)
        rows++;
    int tiles = (step->h + rows - 1) / rows;
    return (step->h + tiles - 1) / tiles;
}

/* Adds the step of an operation with a head of its own, or one that reads what its links change. */
static bool add_step(struct planner *planner, const struct operation *one)
{
    struct plan *plan = planner->plan;
    struct step *step = &plan->steps[plan->count];
    bool loads = is_link(one);
    int current = loads ? one->x : one->out;
    /* A sum over positions goes on from the tensor that has them. */
    const struct tensor *result = &plan->tensors[current];
    step->head = loads ? NULL : one;
    step->x = one->x;
    step->h = result->h;
    step->w = result->w;
    step->c = result->c;
    step->rows = tile_rows(step);
    const struct part *part = parts_of(one->kind) ? part_at(&planner->net->file, plan->point, one, 0) : NULL;
    switch (loads ? CAST : one->kind) {
    case CONVOLUTION:
    case INTEGER_CONVOLUTION:
    case DENSE:
    case INTEGER_DENSE:
        step->convolution = convolution_make(planner->net, plan, one, planner->why);
        if (!step->convolution)
            return false;
        break;
    case RESIZE:
    case CONFIDENT:
        step->numbers = values_of(planner, part);
        if (!step->numbers)
            return false;
        step->bands = bands_of(planner, step->numbers, part->extents[0], part->extents[1]);
        if (!step->bands)
            return wrong(planner->why, "there is not enough memory");
        break;
    case POOL:
        pads_of(one, &plan->tensors[one->x], one->window[0], one->window[1], step->pads);
        break;
    case CHOOSE:
        step->h = step->w = step->c = step->rows = 1;
        for (int i = 0; i < one->results; i++)
            store(planner, one->out + i);
        plan->linked -= one->results;
        plan->count++;
        return true;
    default:
        break;
    }
    if (!add_links(planner, current))
        return false;
    plan->count++;
    return true;
}

static void read_by(struct plan *plan, int tensor, int step)
{
    if (plan->tensors[tensor].last < step)
        plan->tensors[tensor].last = step;
}

/* Finds the last step that reads each tensor. */
static void find_last(const struct lqn *net, struct plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        const struct step *step = &plan->steps[i];
        const struct operation *head = step->head;
        read_by(plan, step->x, i);
        for (int k = 0; k < step->links; k++) {
            const struct link *link = &plan->links[step->first_link + k];
            if (link->kind == BY_TENSOR || link->kind == BY_PIXEL)
                read_by(plan, link->tensor, i);
        }
        for (int k = 0; head && k < head->lists; k++) {
            if (head->kind == CONCATENATE || head->kind == CHOOSE)
                read_by(plan, net->file.lists[head->first_list + k], i);
        }
    }
    read_by(plan, plan->graph->output, plan->count);
    for (int i = 0; i < plan->point->choices; i++)
        read_by(plan, net->file.choices[plan->point->first_choice + i].tensor, plan->count);
}

static size_t stored_bytes(const struct tensor *tensor)
{
    size_t size = tensor_size(tensor) * (tensor->storage == FLOATS ? sizeof(float) : 1);
    return (size + ALIGNED - 1) / ALIGNED * ALIGNED;
}

/* Gives a tensor the lowest place that those do not take that live at the same time. */
static void place(struct plan *plan, int number)
{
    struct tensor *tensor = &plan->tensors[number];
    size_t size = stored_bytes(tensor);
    bool moved = true;
    while (moved) {
        moved = false;
        for (int i = plan->graph->inputs; i < number; i++) {
            const struct tensor *other = &plan->tensors[i];
            bool together = other->stored && other->made <= tensor->last && tensor->made <= other->last;
            size_t end = other->place + stored_bytes(other);
            if (together && other->place < tensor->place + size && tensor->place < end) {
                tensor->place = end;
                moved = true;
            }
        }
    }
    if (plan->arena < tensor->place + size)
        plan->arena = tensor->place + size;
}

static bool find_memory(struct planner *planner)
{
    struct plan *plan = planner->plan;
    find_last(planner->net, plan);
    for (int i = plan->graph->inputs; i < plan->graph->tensors; i++) {
        if (plan->tensors[i].stored)
            place(plan, i);
        if (plan->arena > MOST_MEMORY)
            return wrong(planner->why, "takes more than 2 GB of memory");
    }
    for (int i = 0; i < plan->count; i++) {
        const struct step *step = &plan->steps[i];
        size_t tile = (size_t)step->rows * (size_t)step->w * (size_t)step->c * sizeof(float);
        size_t work = head_work(plan, step);
        plan->tile = tile > plan->tile ? tile : plan->tile;
        plan->work = work > plan->work ? work : plan->work;
        if (step->convolution && step->convolution->packed_bytes > plan->packed)
            plan->packed = step->convolution->packed_bytes;
    }
    if (plan->packed > MOST_MEMORY || plan->work > MOST_MEMORY)
        return wrong(planner->why, "takes more than 2 GB of memory");
    return true;
}

static bool make(struct planner *planner)
{
    struct plan *plan = planner->plan;
    size_t tensors = (size_t)plan->graph->tensors, operations = (size_t)plan->graph->count;
    plan->tensors = pool_take(&plan->pool, tensors * sizeof *plan->tensors);
    plan->quantizers = pool_take(&plan->pool, tensors * sizeof *plan->quantizers);
    plan->steps = pool_take(&plan->pool, operations * sizeof *plan->steps);
    plan->links = pool_take(&plan->pool, (operations + 2 * tensors) * sizeof *plan->links);
    planner->absorbed = pool_take(&plan->pool, operations);
    if (!plan->tensors || !plan->quantizers || !plan->steps || !plan->links || !planner->absorbed)
        return wrong(planner->why, "there is not enough memory");
    if (!shapes_find(planner->net, plan, planner->why))
        return false;
    for (size_t i = 0; i < tensors; i++)
        plan->tensors[i].made = i < (size_t)plan->graph->inputs ? 0 : NONE;
    for (int i = 0; i < plan->graph->count; i++) {
        if (!planner->absorbed[i] && !add_step(planner, operation_at(planner, i)))
            return false;
    }
    return find_memory(planner);
}

struct plan *plan_make(struct lqn *net, const struct point *point, struct complaint why)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        wrong(why, "there is not enough memory");
        return NULL;
    }
    plan->point = point;
    plan->graph = &net->file.graphs[point->graph];
    struct planner planner = {net, plan, NULL, why};
    if (make(&planner))
        return plan;
    plan_free(plan);
    return NULL;
}

void plan_free(struct plan *plan)
{
    if (plan)
        pool_free(&plan->pool);
    free(plan);
}
