/* Rows of results, of all operations but convolutions: what a step computes before its links. */
#include <math.h>
#include <string.h>

#include "network.h"

/* Row y of a tensor as float: in place, or in `room`. */
static const float *row_of(const struct lqn *net, int number, int y, float *room)
{
    const struct tensor *x = &net->plan->tensors[number];
    size_t length = (size_t)x->w * (size_t)x->c;
    const uint8_t *data = tensor_at(net, number);
    if (x->storage == FLOATS)
        return (const float *)(const void *)data + (size_t)y * length;
    net->kernels->from_bytes(room, length, data + (size_t)y * length, x->storage == SIGNED_BYTES);
    return room;
}

static void load(const struct lqn *net, const struct step *step, int y0, int y1, float *tile)
{
    size_t length = (size_t)step->w * (size_t)step->c;
    for (int y = y0; y < y1; y++, tile += length) {
        const float *row = row_of(net, step->x, y, tile);
        if (row != tile)
            memcpy(tile, row, length * sizeof *tile);
    }
}

static void pool_maximum(const struct lqn *net, const struct step *step, int y, float *out,
                         float *room)
{
    const struct operation *one = step->head;
    const struct tensor *x = &net->plan->tensors[step->x];
    size_t c = (size_t)x->c;
    for (size_t i = 0; i < (size_t)step->w * c; i++)
        out[i] = -INFINITY;
    for (int i = 0; i < one->window[0]; i++) {
        int from = y * one->stride[0] + i - step->pads[0];
        if (from < 0 || from >= x->h)
            continue;
        const float *row = row_of(net, step->x, from, room);
        for (int column = 0; column < step->w; column++) {
            int first = column * one->stride[1] - step->pads[2];
            for (int k = first < 0 ? 0 : first; k < first + one->window[1] && k < x->w; k++)
                net->kernels->maximum(out + (size_t)column * c, c, row + (size_t)k * c);
        }
    }
}

static void pool_average(const struct lqn *net, const struct step *step, int y, float *out,
                         float *room, double *sums)
{
    const struct operation *one = step->head;
    const struct tensor *x = &net->plan->tensors[step->x];
    size_t c = (size_t)x->c;
    int rows = 0;
    memset(sums, 0, (size_t)step->w * c * sizeof *sums);
    for (int i = 0; i < one->window[0]; i++) {
        int from = y * one->stride[0] + i - step->pads[0];
        if (from < 0 || from >= x->h)
            continue;
        rows++;
        const float *row = row_of(net, step->x, from, room);
        for (int column = 0; column < step->w; column++) {
            int first = column * one->stride[1] - step->pads[2];
            for (int k = first < 0 ? 0 : first; k < first + one->window[1] && k < x->w; k++)
                net->kernels->add_double(sums + (size_t)column * c, c, row + (size_t)k * c);
        }
    }
    for (int column = 0; column < step->w; column++) {
        int first = column * one->stride[1] - step->pads[2];
        int last = first + one->window[1] < x->w ? first + one->window[1] : x->w;
        int columns = last - (first < 0 ? 0 : first);
        for (size_t i = (size_t)column * c; i < (size_t)(column + 1) * c; i++)
            out[i] = (float)(sums[i] / (rows * columns));
    }
}

static void pool_all(const struct lqn *net, const struct step *step, float *out, float *room,
                     double *sums)
{
    const struct tensor *x = &net->plan->tensors[step->x];
    size_t c = (size_t)x->c;
    memset(sums, 0, c * sizeof *sums);
    for (int y = 0; y < x->h; y++) {
        const float *row = row_of(net, step->x, y, room);
        for (int column = 0; column < x->w; column++)
            net->kernels->add_double(sums, c, row + (size_t)column * c);
    }
    for (size_t i = 0; i < c; i++)
        out[i] = (float)(sums[i] / ((double)x->h * x->w));
}

/* A row of shares @ x @ shares', whose numbers lie in a band. */
static void resize(const struct lqn *net, const struct step *step, int y, float *out, float *room,
                   double *sums)
{
    const struct tensor *x = &net->plan->tensors[step->x];
    size_t c = (size_t)x->c, length = (size_t)x->w * c;
    const float *down = step->numbers + (size_t)y * (size_t)x->h;
    memset(sums, 0, length * sizeof *sums);
    for (int from = step->bands[y].from; from < step->bands[y].to; from++) {
        const float *row = row_of(net, step->x, from, room);
        for (size_t i = 0; i < length; i++)
            sums[i] += (double)down[from] * (double)row[i];
    }
    for (int column = 0; column < step->w; column++) {
        const float *shares = step->numbers + (size_t)column * (size_t)x->w;
        struct band band = step->bands[column];
        for (size_t channel = 0; channel < c; channel++) {
            double sum = 0;
            for (int k = band.from; k < band.to; k++)
                sum += (double)shares[k] * sums[(size_t)k * c + channel];
            *out++ = (float)sum;
        }
    }
}

static void pad(const struct lqn *net, const struct step *step, int y, float *out, float *room)
{
    const struct operation *one = step->head;
    const struct tensor *x = &net->plan->tensors[step->x];
    memset(out, 0, (size_t)step->w * (size_t)step->c * sizeof *out);
    int from = y - one->pads[0];
    if (from < 0 || from >= x->h)
        return;
    const float *row = row_of(net, step->x, from, room);
    for (int column = 0; column < x->w; column++)
        memcpy(out + (size_t)(column + one->pads[2]) * (size_t)step->c,
               row + (size_t)column * (size_t)x->c, (size_t)x->c * sizeof *out);
}

static void crop(const struct lqn *net, const struct step *step, int y, float *out, float *room)
{
    const int32_t *list = net->file.lists + step->head->first_list;
    const struct tensor *x = &net->plan->tensors[step->x];
    const float *row = row_of(net, step->x, list[0] + y * list[6], room);
    for (int column = 0; column < step->w; column++) {
        const float *pixel = row + (size_t)(list[1] + column * list[7]) * (size_t)x->c + list[2];
        for (int c = 0; c < step->c; c++)
            *out++ = pixel[c * list[8]];
    }
}

static void concatenate(const struct lqn *net, const struct step *step, int y, float *out,
                        float *room)
{
    const struct operation *one = step->head;
    size_t at = 0;
    for (int i = -1; i < one->lists; i++) {
        int number = i < 0 ? step->x : net->file.lists[one->first_list + i];
        size_t c = (size_t)net->plan->tensors[number].c;
        const float *row = row_of(net, number, y, room);
        for (int column = 0; column < step->w; column++)
            memcpy(out + (size_t)column * (size_t)step->c + at, row + (size_t)column * c,
                   c * sizeof *out);
        at += c;
    }
}

/* Copies the results of one of several branches. */
static bool choose(const struct lqn *net, const struct step *step)
{
    const struct operation *one = step->head;
    int number;
    if (!branch_of(net, step, &number))
        return false;
    const int32_t *branch = net->file.lists + one->first_list + number * one->results;
    for (int i = 0; i < one->results; i++) {
        const struct tensor *out = &net->plan->tensors[one->out + i];
        size_t wide = out->storage == FLOATS ? sizeof(float) : 1;
        memcpy(tensor_at(net, one->out + i), tensor_at(net, branch[i]), tensor_size(out) * wide);
    }
    return true;
}

static int largest(const float *row, int c)
{
    int best = 0;
    for (int i = 1; i < c; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

/* The logarithm of the sum of the exponentials of a row, less its largest. */
static double normalizer(const float *row, int c, int best)
{
    double others = 0;
    for (int i = 0; i < c; i++) {
        if (i != best)
            others += exp((double)row[i] - (double)row[best]);
    }
    return log1p(others);
}

static void of_row(const struct lqn *net, const struct step *step, float *out, float *room)
{
    const struct tensor *x = &net->plan->tensors[step->x];
    const float *row = row_of(net, step->x, 0, room);
    int best = largest(row, x->c);
    if (step->head->kind == LARGEST) {
        out[0] = (float)best;
    } else if (step->head->kind == PROBABILITIES) {
        double rest = normalizer(row, x->c, best);
        for (int i = 0; i < x->c; i++)
            out[i] = (float)exp(((double)row[i] - (double)row[best]) - rest);
    } else {
        out[0] = (float)-normalizer(row, x->c, best) >= step->numbers[0];
    }
}

/* Numbers of the longest row that a head reads or writes. */
static size_t longest(const struct plan *plan, const struct step *step)
{
    const struct tensor *x = &plan->tensors[step->x];
    size_t read = (size_t)x->w * (size_t)x->c, made = (size_t)step->w * (size_t)step->c;
    return read > made ? read : made;
}

size_t head_work(const struct plan *plan, const struct step *step)
{
    return longest(plan, step) * (sizeof(double) + sizeof(float));
}

bool head_rows(struct lqn *net, const struct step *step, int y0, int y1, float *tile, void *work)
{
    const struct operation *one = step->head;
    size_t length = (size_t)step->w * (size_t)step->c;
    double *sums = work;
    float *room = (float *)(void *)(sums + longest(net->plan, step));
    if (!one) {
        load(net, step, y0, y1, tile);
        return true;
    }
    for (int y = y0; y < y1; y++, tile += length) {
        switch (one->kind) {
        case POOL:
            if (one->function == MAXIMUM)
                pool_maximum(net, step, y, tile, room);
            else
                pool_average(net, step, y, tile, room, sums);
            break;
        case GLOBAL_POOL:
            pool_all(net, step, tile, room, sums);
            break;
        case RESIZE:
            resize(net, step, y, tile, room, sums);
            break;
        case PAD:
            pad(net, step, y, tile, room);
            break;
        case CROP:
            crop(net, step, y, tile, room);
            break;
        case CONCATENATE:
            concatenate(net, step, y, tile, room);
            break;
        case CHOOSE:
            return choose(net, step);
        case NUMBER:
            tile[0] = (float)one->value;
            break;
        default:
            of_row(net, step, tile, room);
        }
    }
    return true;
}
