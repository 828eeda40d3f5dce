/* Shapes of the results of a point. What does not fit together is refused here. */
#include "network.h"

/* Numbers of a tensor: more are taken for damage. */
static const uint64_t MOST = 1 << 26;

const struct part *part_at(const struct file *file, const struct point *point,
                           const struct operation *one, int index)
{
    return &file->parts[file->lists[point->first_part + one->first_part + index]];
}

void pads_of(const struct operation *one, const struct tensor *x, int kh, int kw, int pads[4])
{
    for (int i = 0; i < 4; i++)
        pads[i] = one->pads[i];
    if (!one->same)
        return;
    int sides[2] = {x->h, x->w}, window[2] = {kh, kw};
    for (int axis = 0; axis < 2; axis++) {
        int step = one->stride[axis];
        int last = (sides[axis] - 1) / step * step;
        int missing = last + window[axis] - sides[axis];
        missing = missing > 0 ? missing : 0;
        pads[2 * axis] = missing / 2;
        pads[2 * axis + 1] = missing - missing / 2;
    }
}

static bool is_vector(const struct part *part, int length, bool or_one)
{
    bool fits = part->extents[0] == length || (or_one && part->extents[0] == 1);
    return fits && part->extents[1] == 1 && part->extents[2] == 1 && part->extents[3] == 1;
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->h == b->h && a->w == b->w && a->c == b->c && a->is_row == b->is_row;
}

static bool set(struct tensor *out, int64_t h, int64_t w, int64_t c)
{
    if (h < 1 || w < 1 || c < 1 || h > (int64_t)MOST || w > (int64_t)MOST || c > (int64_t)MOST)
        return false;
    if ((uint64_t)h * (uint64_t)w > MOST || (uint64_t)h * (uint64_t)w * (uint64_t)c > MOST)
        return false;
    out->h = (int)h;
    out->w = (int)w;
    out->c = (int)c;
    return true;
}

/* Windows of an image: sets the shape of the result. */
static bool windows(const struct operation *one, const struct tensor *x, int kh, int kw, int c,
                    struct tensor *out)
{
    if (x->is_row || one->stride[0] < 1 || one->stride[1] < 1 || kh < 1 || kw < 1)
        return false;
    int pads[4];
    pads_of(one, x, kh, kw, pads);
    int height = x->h + pads[0] + pads[1] - kh, width = x->w + pads[2] + pads[3] - kw;
    if (height < 0 || width < 0)
        return false;
    return set(out, height / one->stride[0] + 1, width / one->stride[1] + 1, c);
}

static bool convolution(const struct operation *one, const struct tensor *x,
                        const struct part *kernel, struct tensor *out)
{
    const int32_t *extents = kernel->extents;
    bool grouped = one->groups >= 1 && x->c % one->groups == 0 &&
                   x->c / one->groups == extents[2] && extents[3] % one->groups == 0;
    if (!grouped || one->stride[0] != one->stride[1])
        return false;
    return windows(one, x, extents[0], extents[1], extents[3], out);
}

static bool pool(const struct operation *one, const struct tensor *x, struct tensor *out)
{
    if (!windows(one, x, one->window[0], one->window[1], x->c, out))
        return false;
    /* A window that lies outside of the image has neither maximum nor average. */
    int pads[4];
    pads_of(one, x, one->window[0], one->window[1], pads);
    return pads[0] < one->window[0] && pads[1] < one->window[0] && pads[2] < one->window[1] &&
           pads[3] < one->window[1] && one->function <= AVERAGE;
}

static bool crop(const int32_t *list, const struct tensor *x, struct tensor *out)
{
    const int extents[3] = {x->h, x->w, x->c};
    int64_t found[3];
    for (int axis = 0; axis < 3; axis++) {
        int64_t start = list[axis], stop = list[3 + axis], step = list[6 + axis];
        if (start < 0 || stop > extents[axis] || start >= stop || step < 1)
            return false;
        found[axis] = (stop - start + step - 1) / step;
    }
    return !x->is_row && set(out, found[0], found[1], found[2]);
}

static bool concatenate(const struct plan *plan, const struct operation *one, const int32_t *list,
                        struct tensor *out)
{
    const struct tensor *x = &plan->tensors[one->x];
    int64_t c = x->c;
    for (int i = 0; i < one->lists; i++) {
        const struct tensor *other = &plan->tensors[list[i]];
        if (other->h != x->h || other->w != x->w || other->is_row)
            return false;
        c += other->c;
    }
    return !x->is_row && set(out, x->h, x->w, c);
}

/* Results of a choice have the shape and storage of those of every branch. */
static bool choose(struct plan *plan, const struct operation *one, const int32_t *list)
{
    for (int result = 0; result < one->results; result++) {
        struct tensor *out = &plan->tensors[one->out + result];
        for (int branch = 0; branch * one->results < one->lists; branch++) {
            const struct tensor *given = &plan->tensors[list[branch * one->results + result]];
            if (!branch)
                *out = *given;
            if (!same_shape(out, given) || out->storage != given->storage)
                return false;
            out->encoder = out->encoder == given->encoder ? out->encoder : NULL;
        }
        out->readers = 0;
    }
    return tensor_size(&plan->tensors[one->x]) == 1;
}

static bool combine(const struct operation *one, const struct tensor *x, const struct tensor *y)
{
    bool one_pixel = y->h == 1 && y->w == 1 && y->c == x->c && !x->is_row && !y->is_row;
    return (one->function == ADD || one->function == MULTIPLY) && (same_shape(x, y) || one_pixel);
}

/* Whole numbers pass through what only moves them. */
static bool passes(const struct operation *one)
{
    switch (one->kind) {
    case POOL:
        return one->function == MAXIMUM;
    case PAD:
    case CROP:
    case TO_ROWS:
    case TO_IMAGES:
        return true;
    default:
        return false;
    }
}

static bool quantizer(const struct part *thresholds, const struct part *levels)
{
    int count = levels->extents[0];
    return count >= 2 && is_vector(levels, count, false) && is_vector(thresholds, count - 1, false);
}

/* What moves numbers, or makes one of several. */
static bool move(const struct plan *plan, const struct operation *one, const int32_t *list,
                 struct tensor *out)
{
    const struct tensor *x = &plan->tensors[one->x];
    switch (one->kind) {
    case CONCATENATE:
        return concatenate(plan, one, list, out);
    case POOL:
        return pool(one, x, out);
    case GLOBAL_POOL:
        return !x->is_row && set(out, 1, 1, x->c);
    case PAD:
        return !x->is_row && one->value >= 0 &&
               set(out, (int64_t)x->h + one->pads[0] + one->pads[1],
                   (int64_t)x->w + one->pads[2] + one->pads[3], (int64_t)x->c + one->value);
    case CROP:
        return crop(list, x, out);
    case TO_ROWS:
        out->is_row = true;
        return !x->is_row && x->h == 1 && x->w == 1;
    case TO_IMAGES:
        out->is_row = false;
        return x->is_row;
    default:
        return false;
    }
}

/* Choices, and the numbers by which they are made. */
static bool decide(struct plan *plan, const struct operation *one, const int32_t *list,
                   const struct part *threshold, struct tensor *out)
{
    const struct tensor *x = &plan->tensors[one->x];
    switch (one->kind) {
    case CHOOSE:
        return choose(plan, one, list);
    case NUMBER:
        out->is_row = true;
        return set(out, 1, 1, 1);
    case LARGEST:
        return x->is_row && set(out, 1, 1, 1);
    case PROBABILITIES:
        return x->is_row;
    case CONFIDENT:
        return x->is_row && is_vector(threshold, 1, false) && set(out, 1, 1, 1);
    default:
        return false;
    }
}

static bool shape_of(const struct lqn *net, struct plan *plan, const struct operation *one)
{
    const struct file *file = &net->file;
    const struct tensor *x = &plan->tensors[one->x];
    struct tensor *out = &plan->tensors[one->out];
    const int32_t *list = file->lists + one->first_list;
    const struct part *parts[2] = {NULL, NULL};
    for (int i = 0; i < parts_of(one->kind); i++)
        parts[i] = part_at(file, plan->point, one, i);
    bool takes_images = one->x < plan->graph->inputs;
    if (takes_images != (one->kind == CAST) && one->kind != NUMBER)
        return false;
    if (one->kind != CHOOSE) {
        *out = (struct tensor){.h = x->h, .w = x->w, .c = x->c, .is_row = x->is_row};
        if (passes(one)) {
            out->storage = x->storage;
            out->encoder = x->encoder;
        }
    }
    switch ((enum kind)one->kind) {
    case CAST:
    case FLIP:
        return true;
    case ARITHMETIC:
        return one->function <= DIVIDE && is_vector(parts[0], x->c, true);
    case AFFINE:
        return is_vector(parts[0], x->c, true) && is_vector(parts[1], x->c, true);
    case RESIZE:
        return !x->is_row && x->h == x->w && parts[0]->extents[1] == x->h &&
               parts[0]->extents[2] == 1 && parts[0]->extents[3] == 1 &&
               set(out, parts[0]->extents[0], parts[0]->extents[0], x->c);
    case INTEGER_CONVOLUTION:
        return x->storage != FLOATS && convolution(one, x, parts[0], out);
    case CONVOLUTION:
        return x->storage == FLOATS && convolution(one, x, parts[0], out);
    case INTEGER_DENSE:
    case DENSE:
        return x->is_row && (one->kind == DENSE) == (x->storage == FLOATS) &&
               parts[0]->extents[0] == x->c && parts[0]->extents[2] == 1 &&
               parts[0]->extents[3] == 1 && set(out, 1, 1, parts[0]->extents[1]);
    case ACTIVATION:
        return one->function <= LOG;
    case ENCODE:
        out->storage = one->is_signed ? SIGNED_BYTES : UNSIGNED_BYTES;
        out->encoder = one;
        return quantizer(parts[0], parts[1]) && parts[1]->extents[0] <= 256;
    case QUANTIZE:
        return quantizer(parts[0], parts[1]);
    case COMBINE:
        return one->y >= plan->graph->inputs && combine(one, x, &plan->tensors[one->y]);
    default:
        return move(plan, one, list, out) || decide(plan, one, list, parts[0], out);
    }
}

/* Counts who reads each tensor. */
static void count_readers(const struct lqn *net, struct plan *plan)
{
    const struct graph *graph = plan->graph;
    for (int i = 0; i < graph->count; i++) {
        const struct operation *one = &net->file.operations[graph->first + i];
        if (one->kind != NUMBER && one->kind != CHOOSE)
            plan->tensors[one->x].readers++;
        if (one->kind == CHOOSE)
            plan->tensors[one->x].readers += 2; /* kept until the choice is made */
        if (one->kind == COMBINE)
            plan->tensors[one->y].readers++;
        if (one->kind != CONCATENATE && one->kind != CHOOSE)
            continue;
        for (int k = 0; k < one->lists; k++) {
            int read = net->file.lists[one->first_list + k];
            plan->tensors[read].readers++;
        }
    }
}

bool shapes_find(struct lqn *net, struct plan *plan, struct complaint why)
{
    const struct file *file = &net->file;
    const struct graph *graph = plan->graph;
    for (int i = 0; i < graph->inputs; i++) {
        int side = i ? file->lists[plan->point->first_view + i - 1] : plan->point->side;
        plan->tensors[i] = (struct tensor){
            .h = side, .w = side, .c = plan->point->channels, .storage = UNSIGNED_BYTES};
    }
    for (int i = 0; i < graph->count; i++) {
        const struct operation *one = &file->operations[graph->first + i];
        if (one->kind == CHOOSE || one->kind == CONCATENATE) {
            for (int k = 0; k < one->lists; k++) {
                if (file->lists[one->first_list + k] < graph->inputs)
                    return wrong(why, "is damaged: operation %d reads images", i);
            }
        }
        if (!shape_of(net, plan, one))
            return wrong(why, "is damaged: shapes of operation %d", i);
    }
    count_readers(net, plan);
    const struct tensor *output = &plan->tensors[graph->output];
    if (!output->is_row || output->storage != FLOATS || graph->output < graph->inputs)
        return wrong(why, "is damaged: its output is no row of numbers");
    plan->tensors[graph->output].readers++;
    for (int i = 0; i < plan->point->choices; i++) {
        int chosen = file->choices[plan->point->first_choice + i].tensor;
        bool is_number = tensor_size(&plan->tensors[chosen]) == 1;
        if (!is_number || chosen < graph->inputs || plan->tensors[chosen].storage != FLOATS)
            return wrong(why, "is damaged: choice %d is no number", i);
        plan->tensors[chosen].readers++;
    }
    return true;
}
