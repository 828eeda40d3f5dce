/* Runs the steps of a plan for one image. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "network.h"

/* Rows of an input that a thread packs at a time. */
enum { PACKED_ROWS = 8 };

struct running {
    struct lqn *net;
    const struct step *step;
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
    int y0 = item * PACKED_ROWS;
    int y1 = y0 + PACKED_ROWS < one->rows ? y0 + PACKED_ROWS : one->rows;
    (void)thread;
    running->net->kernels->pack(one, tensor_at(running->net, running->step->x), y0, y1,
                                running->net->packed);
}

static void tile_item(void *data, int item, int thread)
{
    struct running *running = data;
    struct lqn *net = running->net;
    const struct step *step = running->step;
    int y0 = item * step->rows;
    int y1 = y0 + step->rows < step->h ? y0 + step->rows : step->h;
    uint8_t *scratch = net->scratch + (size_t)thread * net->scratch_size;
    float *tile = (float *)(void *)scratch;
    float *room = (float *)(void *)(scratch + net->plan->tile);
    void *work = scratch + 2 * net->plan->tile;
    if (step->convolution)
        net->kernels->convolve(step->convolution, net->packed, y0, y1, tile);
    else if (!head_rows(net, step, y0, y1, tile, work))
        atomic_store(&running->failed, true);
    apply(net, step, y0, y1, tile, room);
}

static bool run_step(struct lqn *net, const struct step *step)
{
    struct running running = {.net = net, .step = step};
    if (step->convolution) {
        int items = (step->convolution->rows + PACKED_ROWS - 1) / PACKED_ROWS;
        threads_share(net->threads, items, pack_item, &running);
    }
    threads_share(net->threads, (step->h + step->rows - 1) / step->rows, tile_item, &running);
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
