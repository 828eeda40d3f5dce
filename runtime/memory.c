/* Memory: pools, and places of tensors in the arena of a point. */
#define _DEFAULT_SOURCE /* for madvise */
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "planner.h"

enum { ALIGNED = 64, HUGE_PAGE = 1 << 21, GROWTH = 8, LARGE_CHUNK = 4 * HUGE_PAGE };

/* Each piece is a chunk of its own where a sanitizer is to see where it ends. */
#if defined(__SANITIZE_ADDRESS__)
enum { FIRST_CHUNK = 0 };
#else
enum { FIRST_CHUNK = 1 << 16 };
#endif

static const size_t MOST_MEMORY = (size_t)1 << 31;

size_t rounded_up(size_t size)
{
    return (size + ALIGNED) / ALIGNED * ALIGNED;
}

void *take_memory(size_t size)
{
    size_t unit = size < HUGE_PAGE ? ALIGNED : HUGE_PAGE, most = SIZE_MAX - HUGE_PAGE;
    size_t whole = size && size < most ? (size + unit - 1) / unit * unit : unit;
    void *memory = size < most ? aligned_alloc(unit, whole) : NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    /* The first touch of every page of 4 kB would take longer than what is done with it. */
    if (memory && unit == HUGE_PAGE)
        madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memory;
}

/* Room for at least so many bytes. Nothing of it is touched before it is taken. */
static bool add_chunk(struct pool *pool, size_t size)
{
    size_t next = pool->size && FIRST_CHUNK ? GROWTH * pool->size : FIRST_CHUNK;
    next = next < LARGE_CHUNK ? next : LARGE_CHUNK;
    next = size < next ? next : size;
    void **items = realloc(pool->items, (pool->count + 1) * sizeof *items);
    if (!items)
        return false;
    pool->items = items;
    items[pool->count] = take_memory(next);
    if (!items[pool->count])
        return false;
    pool->count++;
    pool->size = next;
    pool->used = 0;
    return true;
}

void *pool_take(struct pool *pool, size_t size)
{
    size_t whole = rounded_up(size);
    if (whole < size)
        return NULL;
    if ((!pool->count || whole > pool->size - pool->used) && !add_chunk(pool, whole))
        return NULL;
    void *memory = (uint8_t *)pool->items[pool->count - 1] + pool->used;
    pool->used += whole;
    return memset(memory, 0, size);
}

void pool_free(struct pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        free(pool->items[i]);
    free(pool->items);
    *pool = (struct pool){0};
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
        for (int k = 0, read; (read = tensor_read(net, plan, step, k)) != NONE; k++)
            read_by(plan, read, i);
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

bool plan_memory(const struct lqn *net, struct plan *plan, struct complaint why)
{
    find_last(net, plan);
    for (int i = plan->graph->inputs; i < plan->graph->tensors; i++) {
        if (plan->tensors[i].stored)
            place(plan, i);
        if (plan->arena > MOST_MEMORY)
            return wrong(why, "takes more than 2 GB of memory");
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
        return wrong(why, "takes more than 2 GB of memory");
    return true;
}
