/* A network that is open, and what was planned for its points. */
#ifndef NETWORK_H
#define NETWORK_H

#include "file.h"
#include "kernels.h"
#include "lqn.h"
#include "threads.h"

/* Memory that is given back all at once. */
struct pool {
    void **items;      /* chunks */
    size_t count;
    size_t size, used; /* of the last one, bytes */
};

/* The next multiple of 64 above a size. */
size_t rounded_up(size_t size);
/* Memory at a multiple of 64 bytes; NULL where there is no more. */
void *take_memory(size_t size);
/* Likewise, zeros that the pool gives back. */
void *pool_take(struct pool *pool, size_t size);
void pool_free(struct pool *pool);

enum storage { FLOATS, UNSIGNED_BYTES, SIGNED_BYTES };

/* A result: images [h, w, c], or a row, with h = w = 1. */
struct tensor {
    int h, w, c;
    bool is_row;
    enum storage storage;
    const struct operation *encoder; /* whose levels the bytes are, if one made them all */
    int readers;
    int made, last; /* steps that write and read it */
    bool stored;
    size_t place;   /* in the arena, bytes */
};

enum link_kind {
    BY_CHANNEL, /* arithmetic */
    BY_AFFINE,
    BY_RECTIFIER,
    BY_FUNCTION, /* sigmoid, logarithm */
    BY_STEPS,
    BY_FLIP,
    BY_TENSOR,
    BY_PIXEL, /* a tensor of one pixel */
    STORED
};

/* What is done to a tile after it was computed, while it is in the cache. */
struct link {
    enum link_kind kind;
    int function;
    int tensor; /* other one, or where to store */
    float most;
    struct channels a, b;
    const struct steps *steps;
};

/* Where the numbers of a row are that are not zero. */
struct band {
    int from, to;
};

/* One loop over the rows of a tensor: a head that computes tiles, and links. */
struct step {
    const struct operation *first;
    const struct operation *head; /* the first one; NULL: reads x as it is */
    int x;
    int h, w, c;  /* of the result */
    int rows;     /* of a tile */
    int first_link, links;
    struct convolution *convolution;
    const float *numbers; /* shares of a resize, threshold of a choice */
    const struct band *bands; /* of the rows of shares */
    int pads[4];
    bool decides; /* makes the number of a choice */
};

struct plan {
    struct pool pool;
    const struct point *point;
    const struct graph *graph;
    struct tensor *tensors;
    const struct steps **quantizers; /* by tensor */
    struct step *steps;
    int count;    /* of steps */
    bool *needed; /* by step, as far as choices are made */
    struct link *links;
    int linked;
    size_t arena, packed, tile, work; /* bytes that a run needs */
};

/* A kernel that was made ready, for all points that use it; none where it has not this form. */
struct prepared {
    struct part part;
    enum form form;
    int groups, taps;
    const void *kernel;
    struct table_form table; /* of the form BY_TABLE, without the input's part */
};

struct lqn {
    struct file file;
    const struct kernels *kernels;
    struct threads *threads;
    int thread_count;
    struct pool pool; /* kernels */
    struct prepared *prepared;
    size_t prepared_count;
    struct plan **plans; /* by point, NULL where none was made */
    struct plan *plan;   /* of the point that is set */
    uint8_t *arena, *packed, *scratch; /* scratch: tile and work of each thread */
    uint8_t *sums;                     /* of a convolution whose outputs threads share */
    size_t arena_size, packed_size, scratch_size, sums_size;
    const uint8_t *images[MOST_INPUTS]; /* views of the image that is run */
    struct lqn_step *timed;             /* where the time of a step goes, NULL: it is not taken */
    int timed_count;
    char why[LQN_TEXT];
};

/* a / b, rounded up. */
static inline int divided(int a, int b)
{
    return (a + b - 1) / b;
}

static inline size_t tensor_size(const struct tensor *tensor)
{
    return (size_t)tensor->h * (size_t)tensor->w * (size_t)tensor->c;
}

/* shapes.c: shapes of all tensors of a point, checked. */
bool shapes_find(struct lqn *net, struct plan *plan, struct complaint why);
/* Zeros around a window: top, bottom, left, right. */
void pads_of(const struct operation *one, const struct tensor *x, int kh, int kw, int pads[4]);

/* A part of an operation of a point. */
const struct part *part_at(const struct file *file, const struct point *point,
                           const struct operation *one, int index);

/* plan.c: steps of a point and where tensors lie. NULL: see `why`. */
struct plan *plan_make(struct lqn *net, const struct point *point, struct complaint why);
void plan_free(struct plan *plan);

/* prepare.c: how a convolution is computed, with its kernel made ready. NULL: see `why`. */
struct convolution *convolution_make(struct lqn *net, struct plan *plan, const struct operation *one,
                                     struct complaint why);

/* table.c: the form BY_TABLE. False or NULL where levels do not allow it, and nothing is wrong. */
bool table_takes(const struct steps *encoder);
bool table_kernel(struct lqn *net, struct prepared *made, const int8_t *whole,
                  const struct convolution *one);
const struct table_form *table_input(struct plan *plan, const struct prepared *made,
                                     const struct convolution *one, const struct steps *encoder);

/* heads.c: rows y0 to y1 of what a step computes, before its links. False: a number is no branch. */
bool head_rows(struct lqn *net, const struct step *step, int y0, int y1, float *tile, void *work);
size_t head_work(const struct plan *plan, const struct step *step);

/* order.c: marks the steps that a run needs, of which the first `done` were computed. */
void mark_needed(const struct lqn *net, struct plan *plan, int done);
/* The branch that the number says which a choice reads; false: there is no such branch. */
bool branch_of(const struct lqn *net, const struct step *step, int *branch);

/* Where a tensor lies in this run. */
uint8_t *tensor_at(const struct lqn *net, int number);

/* run.c: bytes of the sums of a step whose outputs threads share; 0 where they share tiles alone. */
size_t step_sums(const struct lqn *net, const struct step *step);
bool plan_run(struct lqn *net, struct complaint why);

#endif
