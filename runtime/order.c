/* The order of steps, and which of them a run computes: of a choice, those of one branch alone. */
#include <string.h>

#include "planner.h"

int tensor_read(const struct lqn *net, const struct plan *plan, const struct step *step, int place)
{
    const struct operation *head = step->head;
    bool listed = head && (head->kind == CONCATENATE || head->kind == CHOOSE);
    int lists = listed ? head->lists : 0;
    /* A number reads nothing: the images are always there. */
    int x = head && head->kind == NUMBER ? 0 : step->x;
    if (place == 0)
        return x;
    if (place <= lists)
        return net->file.lists[head->first_list + place - 1];
    if (place > lists + step->links)
        return NONE;
    const struct link *link = &plan->links[step->first_link + place - 1 - lists];
    return link->kind == BY_TENSOR || link->kind == BY_PIXEL ? link->tensor : x;
}

/* The step that makes a tensor; NONE where it is given. */
static int maker(const struct plan *plan, int tensor)
{
    return tensor < plan->graph->inputs ? NONE : plan->tensors[tensor].made;
}

/* A step whose reads are being followed. */
struct visit {
    int step, next;
};

struct walk {
    const struct lqn *net;
    struct plan *plan;
    struct visit *stack;
    struct step *ordered;
    int *place; /* of each step among those; NONE where nothing needs it */
    int count;
    bool *seen;
};

/* Puts in order what a tensor needs, each step behind those that it reads. The number of a choice
 * comes first, so that it is known when what its branches need begins. */
static void follow(struct walk *walk, int tensor)
{
    int depth = 0, step = maker(walk->plan, tensor);
    if (step == NONE || walk->seen[step])
        return;
    walk->seen[step] = true;
    walk->stack[depth++] = (struct visit){step, 0};
    while (depth) {
        struct visit *top = &walk->stack[depth - 1];
        const struct step *one = &walk->plan->steps[top->step];
        int read = tensor_read(walk->net, walk->plan, one, top->next++);
        if (read == NONE) {
            walk->place[top->step] = walk->count;
            walk->ordered[walk->count++] = *one;
            depth--;
            continue;
        }
        step = maker(walk->plan, read);
        if (step == NONE || walk->seen[step])
            continue;
        walk->seen[step] = true;
        walk->stack[depth++] = (struct visit){step, 0};
    }
}

/* Has tensors name steps by their new places; what nobody needs is not made. */
static void rename_makers(const struct walk *walk)
{
    struct plan *plan = walk->plan;
    for (int i = plan->graph->inputs; i < plan->graph->tensors; i++) {
        struct tensor *tensor = &plan->tensors[i];
        if (tensor->made != NONE)
            tensor->made = walk->place[tensor->made];
        tensor->last = tensor->made;
        tensor->stored = tensor->stored && tensor->made != NONE;
    }
    for (int i = 0; i < plan->count; i++) {
        const struct operation *head = plan->steps[i].head;
        int step = head && head->kind == CHOOSE ? maker(plan, head->x) : NONE;
        if (step != NONE)
            plan->steps[step].decides = true;
    }
}

bool order_steps(const struct lqn *net, struct plan *plan, struct complaint why)
{
    size_t count = (size_t)plan->count;
    struct pool *pool = &plan->pool;
    struct walk walk = {.net = net, .plan = plan};
    walk.stack = pool_take(pool, count * sizeof *walk.stack);
    walk.ordered = pool_take(pool, count * sizeof *walk.ordered);
    walk.place = pool_take(pool, count * sizeof *walk.place);
    walk.seen = pool_take(pool, count);
    plan->needed = pool_take(pool, count);
    if (!walk.stack || !walk.ordered || !walk.place || !walk.seen || !plan->needed)
        return wrong(why, "there is not enough memory");
    for (size_t i = 0; i < count; i++)
        walk.place[i] = NONE;
    follow(&walk, plan->graph->output);
    for (int i = 0; i < plan->point->choices; i++)
        follow(&walk, net->file.choices[plan->point->first_choice + i].tensor);
    plan->steps = walk.ordered;
    plan->count = walk.count;
    rename_makers(&walk);
    return true;
}

static void need(struct plan *plan, int tensor)
{
    int step = maker(plan, tensor);
    if (step != NONE)
        plan->needed[step] = true;
}

bool branch_of(const struct lqn *net, const struct step *step, int *branch)
{
    const struct tensor *x = &net->plan->tensors[step->x];
    float number = 0;
    const uint8_t *data = tensor_at(net, step->x);
    if (x->storage == FLOATS)
        memcpy(&number, data, sizeof number);
    else
        net->kernels->from_bytes(&number, 1, data, x->storage == SIGNED_BYTES);
    bool is_one = number >= 0 && number < (float)(step->head->lists / step->head->results);
    *branch = is_one ? (int)number : 0;
    return is_one;
}

void mark_needed(const struct lqn *net, struct plan *plan, int done)
{
    memset(plan->needed, 0, (size_t)plan->count);
    need(plan, plan->graph->output);
    for (int i = 0; i < plan->point->choices; i++)
        need(plan, net->file.choices[plan->point->first_choice + i].tensor);
    for (int i = plan->count - 1; i >= 0; i--) {
        const struct step *step = &plan->steps[i];
        const struct operation *head = step->head;
        bool chooses = head && head->kind == CHOOSE && maker(plan, step->x) < done;
        int branch, read;
        if (!plan->needed[i] || (chooses && !branch_of(net, step, &branch)))
            continue;
        for (int k = 0; (read = tensor_read(net, plan, step, k)) != NONE; k++) {
            if (!chooses || !k || (k - 1) / head->results == branch)
                need(plan, read);
        }
    }
}
