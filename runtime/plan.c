/* Makes steps of the operations of a point: each computes tiles of a few rows, does to them all that
 * goes number by number while they are in the cache, and stores what others read. */
#include <stdlib.h>

#include "planner.h"

enum { TILE_PIXELS = 48, TILE_NUMBERS = 1 << 15 };

static const struct operation *operation_at(const struct planner *planner, int index)
{
    return &planner->net->file.operations[planner->plan->graph->first + index];
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
            if (plan->tensors[other].made == NONE)
                continue;
            if (!same_extent(&plan->tensors[one->out], &plan->tensors[current]))
                continue;
        }
        *index = i;
        return one;
    }
    return NULL;
}

/* Has the step that is being made write a tensor. */
static void mark_stored(struct plan *plan, int tensor)
{
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
        if (!given && (!one || plan->tensors[current].readers > 1)) {
            new_link(planner, STORED)->tensor = current;
            mark_stored(plan, current);
        }
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

/* What the head of a step needs but its tensors: a kernel, numbers, pads. */
static bool set_head(struct planner *planner, const struct operation *one, struct step *step)
{
    struct plan *plan = planner->plan;
    const struct part *part = NULL;
    if (parts_of(one->kind))
        part = part_at(&planner->net->file, plan->point, one, 0);
    switch (one->kind) {
    case CONVOLUTION:
    case INTEGER_CONVOLUTION:
    case DENSE:
    case INTEGER_DENSE:
        step->convolution = convolution_make(planner->net, plan, one, planner->why);
        return step->convolution;
    case CONFIDENT:
        step->numbers = values_of(planner, part);
        return step->numbers;
    case RESIZE:
        step->numbers = values_of(planner, part);
        if (!step->numbers)
            return false;
        step->bands = bands_of(planner, step->numbers, part->extents[0], part->extents[1]);
        return step->bands || wrong(planner->why, "there is not enough memory");
    case POOL:
        pads_of(one, &plan->tensors[one->x], one->window[0], one->window[1], step->pads);
        return true;
    default:
        return true;
    }
}

/* Adds the step of a choice, which copies results of a branch: one tile, to which nothing is done. */
static void add_choice(struct planner *planner, const struct operation *one)
{
    struct plan *plan = planner->plan;
    struct step *step = &plan->steps[plan->count];
    *step = (struct step){.first = one, .head = one, .x = one->x, .h = 1, .w = 1, .c = 1, .rows = 1};
    for (int i = 0; i < one->results; i++)
        mark_stored(plan, one->out + i);
    plan->count++;
}

/* Adds the step of an operation with a head of its own, or one that reads what its links change. */
static bool add_step(struct planner *planner, const struct operation *one)
{
    struct plan *plan = planner->plan;
    struct step *step = &plan->steps[plan->count];
    bool loads = is_link(one);
    int current = loads ? one->x : one->out;
    const struct tensor *result = &plan->tensors[current];
    step->first = one;
    step->head = loads ? NULL : one;
    step->x = one->x;
    step->h = result->h;
    step->w = result->w;
    step->c = result->c;
    step->rows = tile_rows(step);
    if (!loads && !set_head(planner, one, step))
        return false;
    if (!add_links(planner, current))
        return false;
    plan->count++;
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
        const struct operation *one = operation_at(planner, i);
        if (planner->absorbed[i])
            continue;
        if (one->kind == CHOOSE)
            add_choice(planner, one);
        else if (!add_step(planner, one))
            return false;
    }
    return order_steps(planner->net, plan, planner->why) &&
           plan_memory(planner->net, plan, planner->why);
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
