/* Runs the steps of a plan for one image. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "network.h"

/* Pieces for each thread, so that all end at nearly the same time; and what a piece is at least, so that
 * sharing takes less than it gives: bytes that are packed, products. */
enum { PIECES = 4, LEAST_BYTES = 1 << 13, LEAST_PRODUCTS = 1 << 17 };

struct running {
    struct lqn *net;
    const struct step *step;
    int tiles;
    int rows;    /* that are packed at a time */
    int outputs; /* that are computed at a time */
    atomic_bool failed;
};

uint8_t *tensor_at(const struct lqn *net, int number)
{
    if (number < net->plan->graph->inputs)
        return (uint8_t *)(uintptr_t)net->images[number];
    return net->arena + net->plan->tensors[number].place;
}

static void flip(float *tile, size_t pixels, size_t c)
{
    for (size_t i = 0; i < pixels; i++, tile += c) {
        for (size_t k = 0; k < c / 2; k++) {
            float value = tile[k];
            tile[k] = tile[c - 1 - k];
            tile[c - 1 - k] = value;
        }
    }
}

static float sigmoid(float given)
{
    double x = (double)given;
    /* Nothing overflows on either side. */
    return (float)exp(x > 0 ? -log1p(exp(-x)) : x - log1p(exp(x)));
}

static void apply_function(int function, float *tile, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (function == SIGMOID)
            tile[i] = sigmoid(tile[i]);
        else
            tile[i] = (float)log(fmax((double)tile[i], 0x1p-126));
    }
}

static void store(const struct lqn *net, const struct link *link, size_t first, size_t n,
                  const float *tile)
{
    uint8_t *to = tensor_at(net, link->tensor);
    if (net->plan->tensors[link->tensor].storage == FLOATS)
        memcpy(to + first * sizeof *tile, tile, n * sizeof *tile);
    else
        net->kernels->to_bytes(to + first, n, tile);
}

/* The numbers of another tensor from `first` on; the tile has room for them behind it. */
static const float *others(const struct lqn *net, const struct link *link, size_t first, size_t n,
                           float *room)
{
    const struct tensor *other = &net->plan->tensors[link->tensor];
    const uint8_t *data = tensor_at(net, link->tensor);
    if (other->storage == FLOATS)
        return (const float *)(const void *)data + first;
    net->kernels->from_bytes(room, n, data + first, other->storage == SIGNED_BYTES);
    return room;
}

/* Does to rows y0 to y1 of a result what the links say. */
static void apply(const struct lqn *net, const struct step *step, int y0, int y1, float *tile,
                  float *room)
{
    const struct kernels *kernels = net->kernels;
    size_t c = (size_t)step->c, pixels = (size_t)(y1 - y0) * (size_t)step->w, n = pixels * c;
    size_t first = (size_t)y0 * (size_t)step->w * c;
    for (int i = 0; i < step->links; i++) {
        const struct link *link = &net->plan->links[step->first_link + i];
        switch (link->kind) {
        case BY_CHANNEL:
            kernels->arithmetic(link->function, tile, n, link->a);
            break;
        case BY_AFFINE:
            kernels->affine(tile, n, link->a, link->b);
            break;
        case BY_RECTIFIER:
            kernels->rectify(tile, n, link->most);
            break;
        case BY_FUNCTION:
            apply_function(link->function, tile, n);
            break;
        case BY_STEPS:
            kernels->quantize(tile, n, link->steps);
            break;
        case BY_FLIP:
            flip(tile, pixels, c);
            break;
        case BY_TENSOR:
            kernels->combine(link->function, tile, n, others(net, link, first, n, room));
            break;
        case BY_PIXEL: {
            struct channels values = {others(net, link, 0, c, room), c};
            kernels->arithmetic(link->function, tile, n, values);
            break;
        }
        case STORED:
            store(net, link, first, n, tile);
            break;
        }
    }
}

static void pack_item(void *data, int item, int thread)
{
    const struct running *running = data;
    const struct convolution *one = running->step->convolution;
    int y0 = item * running->rows;
    int y1 = y0 + running->rows < one->rows ? y0 + running->rows : one->rows;
    (void)thread;
    running->net->kernels->pack(one, tensor_at(running->net, running->step->x), y0, y1,
                                running->net->packed);
}

/* Rows of a tile, all outputs. */
static struct area tile_at(const struct step *step, int tile)
{
    int y0 = tile * step->rows, y1 = y0 + step->rows;
    return (struct area){y0, y1 < step->h ? y1 : step->h, 0, step->c};
}

static void tile_item(void *data, int item, int thread)
{
    struct running *running = data;
    struct lqn *net = running->net;
    const struct step *step = running->step;
    struct area area = tile_at(step, item);
    uint8_t *scratch = net->scratch + (size_t)thread * net->scratch_size;
    float *tile = (float *)(void *)scratch;
    float *room = (float *)(void *)(scratch + net->plan->tile);
    void *work = scratch + 2 * net->plan->tile;
    if (step->convolution)
        net->kernels->convolve(step->convolution, net->packed, area, tile);
    else if (!head_rows(net, step, area.y0, area.y1, tile, work))
        atomic_store(&running->failed, true);
    apply(net, step, area.y0, area.y1, tile, room);
}

/* Row y of the sums of a convolution whose outputs are shared. */
static float *sums_at(const struct lqn *net, const struct step *step, int y)
{
    return (float *)(void *)net->sums + (size_t)y * (size_t)step->w * (size_t)step->c;
}

/* Some outputs of a tile. */
static void sums_item(void *data, int item, int thread)
{
    const struct running *running = data;
    const struct step *step = running->step;
    struct area area = tile_at(step, item % running->tiles);
    area.o0 = item / running->tiles * running->outputs;
    if (area.o0 + running->outputs < area.o1)
        area.o1 = area.o0 + running->outputs;
    (void)thread;
    running->net->kernels->convolve(step->convolution, running->net->packed, area,
                                    sums_at(running->net, step, area.y0));
}

/* What is done to a row of sums. */
static void links_item(void *data, int item, int thread)
{
    const struct running *running = data;
    const struct lqn *net = running->net;
    uint8_t *scratch = net->scratch + (size_t)thread * net->scratch_size;
    apply(net, running->step, item, item + 1, sums_at(net, running->step, item),
          (float *)(void *)scratch);
}

/* Into how many pieces work is cut that is worth at most so many. */
static int pieces_of(const struct lqn *net, int64_t most)
{
    int wanted = net->threads ? PIECES * net->thread_count : 1;
    if (most < wanted)
        wanted = (int)most;
    return wanted > 1 ? wanted : 1;
}

/* How many outputs of a step are computed at a time: all, where there are tiles enough for the threads. */
static int outputs_at_once(const struct lqn *net, const struct step *step)
{
    const struct convolution *one = step->convolution;
    if (!one || one->groups > 1)
        return step->c;
    int64_t products = (int64_t)step->h * step->w * one->o * one->cg * one->kh * one->kw;
    int pieces = pieces_of(net, products / LEAST_PRODUCTS), tiles = divided(step->h, step->rows);
    int outputs = divided(divided(step->c, APART), divided(pieces, tiles)) * APART;
    return outputs < step->c ? outputs : step->c;
}

size_t step_sums(const struct lqn *net, const struct step *step)
{
    bool shared = outputs_at_once(net, step) < step->c;
    return shared ? (size_t)step->h * (size_t)step->w * (size_t)step->c * sizeof(float) : 0;
}

/* Packs what a convolution reads. */
static void pack(struct running *running)
{
    struct lqn *net = running->net;
    const struct convolution *one = running->step->convolution;
    int pieces = pieces_of(net, (int64_t)(one->packed_bytes / LEAST_BYTES));
    running->rows = divided(one->rows, pieces);
    threads_share(net->threads, divided(one->rows, running->rows), pack_item, running);
}

static bool run_step(struct lqn *net, const struct step *step)
{
    struct running running = {.net = net, .step = step};
    running.tiles = divided(step->h, step->rows);
    running.outputs = outputs_at_once(net, step);
    if (step->convolution)
        pack(&running);
    if (running.outputs == step->c) {
        threads_share(net->threads, running.tiles, tile_item, &running);
    } else {
        int pieces = divided(step->c, running.outputs);
        threads_share(net->threads, running.tiles * pieces, sums_item, &running);
        threads_share(net->threads, step->h, links_item, &running);
    }
    return !atomic_load(&running.failed);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

bool plan_run(struct lqn *net, struct complaint why)
{
    struct plan *plan = net->plan;
    mark_needed(net, plan, 0);
    for (int i = 0; i < plan->count; i++) {
        if (!plan->needed[i])
            continue;
        bool timed = net->timed && i < net->timed_count;
        double start = timed ? now() : 0;
        if (!run_step(net, &plan->steps[i]))
            return wrong(why, "chooses a branch that there is not");
        if (timed)
            net->timed[i].seconds = now() - start;
        if (plan->steps[i].decides)
            mark_needed(net, plan, i + 1);
    }
    return true;
}
