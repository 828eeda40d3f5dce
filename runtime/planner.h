/* What the parts of the planner share. */
#ifndef PLANNER_H
#define PLANNER_H

#include "network.h"

/* Makes the plan of one point. */
struct planner {
    struct lqn *net;
    struct plan *plan;
    bool *absorbed; /* operations that are links of steps */
    struct complaint why;
};

/* links.c: the values of a part, or NULL. */
float *values_of(struct planner *planner, const struct part *part);

struct link *new_link(struct planner *planner, enum link_kind kind);

/* Adds what an operation does to a tile that holds the tensor `current`. */
bool add_link(struct planner *planner, const struct operation *one, int current);

bool same_extent(const struct tensor *a, const struct tensor *b);

/* order.c: in which order steps are computed; those that nothing needs are left out. */
bool order_steps(const struct lqn *net, struct plan *plan, struct complaint why);
/* The tensors that a step reads, by place, some of them more than once; NONE behind the last. */
int tensor_read(const struct lqn *net, const struct plan *plan, const struct step *step, int place);

/* memory.c: where tensors lie, and how much memory a run needs. */
bool plan_memory(const struct lqn *net, struct plan *plan, struct complaint why);

#endif
