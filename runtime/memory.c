/* Memory: pools, and places of tensors in the arena of a point. */
#include <stdlib.h>
#include <string.h>

#include "planner.h"

enum { ALIGNED = 64 };

static const size_t MOST_MEMORY = (size_t)1 << 31;

size_t rounded_up(size_t size)
{
    return (size + ALIGNED) / ALIGNED * ALIGNED;
}

void *take_zeros(size_t size)
{
    size_t whole = rounded_up(size);
    void *memory = whole > size ? aligned_alloc(ALIGNED, whole) : NULL;
    if (memory)
        memset(memory, 0, whole);
    return memory;
}

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
    void *memory = take_zeros(size);
    if (memory)
        pool->items[pool->count++] = memory;
    return memory;
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
