/* The functions of lqn.h. */
#include "lqn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

enum { MOST_THREADS = 256 };

static struct complaint complaint(struct lqn *net)
{
    return (struct complaint){net->why, sizeof net->why};
}

/* A network of bytes, which it takes over. */
static struct lqn *made_of(uint8_t *bytes, size_t size, struct complaint why)
{
    const char *forced = getenv("LQN_KERNELS");
    struct lqn *net = calloc(1, sizeof *net);
    if (!net) {
        free(bytes);
        wrong(why, "there is not enough memory");
        return NULL;
    }
    net->thread_count = 1;
    net->kernels = kernels_of(forced);
    bool good = file_read(&net->file, bytes, size, why);
    if (good && !net->kernels)
        good = wrong(why, "LQN_KERNELS=%s: this machine has no such kernels", forced);
    if (good) {
        net->plans = calloc((size_t)net->file.count[POINTS], sizeof(struct plan *));
        good = net->plans || wrong(why, "there is not enough memory");
    }
    if (good)
        return net;
    lqn_close(net);
    return NULL;
}

struct lqn *lqn_open_bytes(const void *bytes, size_t size, char *why, size_t room)
{
    struct complaint said = {why, room};
    uint8_t *copy = take_memory(size);
    if (!copy) {
        wrong(said, "there is not enough memory");
        return NULL;
    }
    memcpy(copy, bytes, size);
    return made_of(copy, size, said);
}

struct lqn *lqn_open(const char *path, char *why, size_t room)
{
    struct complaint said = {why, room};
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file && !fseek(file, 0, SEEK_END))
        size = ftell(file);
    uint8_t *bytes = size >= 0 ? take_memory((size_t)size) : NULL;
    bool good = bytes && !fseek(file, 0, SEEK_SET) && fread(bytes, 1, (size_t)size, file) == (size_t)size;
    if (!good)
        wrong(said, "cannot be read: %s", strerror(errno));
    if (file)
        fclose(file);
    if (good)
        return made_of(bytes, (size_t)size, said);
    free(bytes);
    return NULL;
}

int lqn_append(struct lqn *net, const void *bytes, size_t size)
{
    size_t before = net->file.size;
    uint8_t *whole = size <= SIZE_MAX - before ? take_memory(before + size) : NULL;
    struct file longer;
    if (!whole) {
        wrong(complaint(net), "there is not enough memory");
        return -1;
    }
    memcpy(whole, net->file.bytes, before);
    memcpy(whole + before, bytes, size);
    if (!file_read(&longer, whole, before + size, complaint(net))) {
        file_free(&longer);
        return -1;
    }
    /* The head is the same, so that what was planned stays right; it names the old tables. */
    net->file.here = longer.here;
    net->file.size = longer.size;
    uint8_t *old = net->file.bytes;
    net->file.bytes = longer.bytes;
    longer.bytes = old;
    for (int i = 0; i < net->file.count[POINTS]; i++)
        net->file.points[i].name = longer.points[i].name;
    for (int i = 0; i < net->file.count[TEXTS]; i++)
        net->file.texts[i] = longer.texts[i];
    net->file.strings = longer.strings;
    file_free(&longer);
    return 0;
}

int lqn_points(const struct lqn *net)
{
    return net->file.count[POINTS];
}

int lqn_point(const struct lqn *net, int place, struct lqn_point *about)
{
    if (place < 0 || place >= net->file.count[POINTS])
        return -1;
    const struct point *point = &net->file.points[place];
    *about = (struct lqn_point){
        .name = point->name,
        .side = point->side,
        .channels = point->channels,
        .views = point->views + 1,
        .sides = net->file.lists + point->first_view,
        .choices = point->choices,
        .is_here = point->needs <= net->file.here,
    };
    return 0;
}

const char *lqn_text(const struct lqn *net, const char *name)
{
    for (int i = 0; i < net->file.count[TEXTS]; i++) {
        if (!strcmp(net->file.texts[i].name, name))
            return net->file.texts[i].value;
    }
    return NULL;
}

/* Memory of at least so many bytes in the place of what was there. */
static bool grow(uint8_t **memory, size_t *size, size_t needed)
{
    if (*memory && needed <= *size)
        return true;
    free(*memory);
    *memory = take_memory(needed);
    *size = *memory ? needed : 0;
    return *memory;
}

/* Memory for what a plan computes: at no time does a run ask for more. */
static bool make_room(struct lqn *net, const struct plan *plan)
{
    size_t sums = 0;
    for (int i = 0; i < plan->count; i++) {
        size_t needed = step_sums(net, &plan->steps[i]);
        sums = needed > sums ? needed : sums;
    }
    size_t each = rounded_up(2 * plan->tile + plan->work);
    size_t total = net->scratch ? net->scratch_size * (size_t)net->thread_count : 0;
    net->scratch_size = each > net->scratch_size ? each : net->scratch_size;
    bool good = grow(&net->scratch, &total, net->scratch_size * (size_t)net->thread_count);
    good = grow(&net->arena, &net->arena_size, plan->arena) && good;
    good = grow(&net->packed, &net->packed_size, plan->packed) && good;
    good = grow(&net->sums, &net->sums_size, sums) && good;
    return good || wrong(complaint(net), "there is not enough memory");
}

int lqn_set_threads(struct lqn *net, int count)
{
    if (count < 1 || count > MOST_THREADS) {
        wrong(complaint(net), "%d threads: give 1 to %d", count, MOST_THREADS);
        return -1;
    }
    threads_stop(net->threads);
    net->threads = count > 1 ? threads_start(count) : NULL;
    if (count > 1 && !net->threads) {
        net->thread_count = 1;
        wrong(complaint(net), "%d threads: the system has not so many", count);
        return -1;
    }
    net->thread_count = count;
    free(net->scratch);
    net->scratch = NULL;
    struct plan *plan = net->plan;
    net->plan = NULL;
    if (plan && !make_room(net, plan))
        return -1;
    net->plan = plan;
    return 0;
}

int lqn_set_point(struct lqn *net, int place)
{
    if (place < 0 || place >= net->file.count[POINTS]) {
        wrong(complaint(net), "point %d: there are %d", place, net->file.count[POINTS]);
        return -1;
    }
    const struct point *point = &net->file.points[place];
    if (point->needs > net->file.here) {
        wrong(complaint(net), "point %s: the file was cut before the bits that it needs", point->name);
        return -1;
    }
    if (!net->plans[place])
        net->plans[place] = plan_make(net, point, complaint(net));
    if (!net->plans[place])
        return -1;
    net->plan = NULL;
    if (!make_room(net, net->plans[place]))
        return -1;
    net->plan = net->plans[place];
    return 0;
}

int lqn_classes(const struct lqn *net)
{
    return net->plan ? net->plan->tensors[net->plan->graph->output].c : 0;
}

static void tell_choices(const struct lqn *net, int32_t *executed)
{
    const struct point *point = net->plan->point;
    for (int i = 0; i < point->choices; i++) {
        int number = net->file.choices[point->first_choice + i].tensor;
        float value = *(const float *)(const void *)tensor_at(net, number);
        executed[i] = value > -1e9f && value < 1e9f ? (int32_t)value : -1;
    }
}

int lqn_run(struct lqn *net, const uint8_t *const *views, size_t count, float *logits,
            int32_t *executed)
{
    if (!net->plan) {
        wrong(complaint(net), "set a point first");
        return -1;
    }
    const struct plan *plan = net->plan;
    const struct tensor *output = &plan->tensors[plan->graph->output];
    size_t classes = (size_t)output->c;
    for (size_t i = 0; i < count; i++) {
        for (int view = 0; view < plan->graph->inputs; view++)
            net->images[view] = views[view] + i * tensor_size(&plan->tensors[view]);
        if (!plan_run(net, complaint(net)))
            return -1;
        memcpy(logits + i * classes, tensor_at(net, plan->graph->output), classes * sizeof *logits);
        if (executed)
            tell_choices(net, executed + i * (size_t)plan->point->choices);
    }
    return 0;
}

int lqn_time(struct lqn *net, const uint8_t *const *views, struct lqn_step *steps, int room)
{
    if (!net->plan) {
        wrong(complaint(net), "set a point first");
        return -1;
    }
    const struct plan *plan = net->plan;
    for (int i = 0; i < plan->count && i < room; i++)
        steps[i] = (struct lqn_step){net->file.strings + plan->steps[i].first->name, 0};
    for (int view = 0; view < plan->graph->inputs; view++)
        net->images[view] = views[view];
    net->timed = steps;
    net->timed_count = room;
    bool good = plan_run(net, complaint(net));
    net->timed = NULL;
    return good ? plan->count : -1;
}

const char *lqn_kernels(const struct lqn *net)
{
    return net->kernels->name;
}

const char *lqn_error(const struct lqn *net)
{
    return net->why;
}

void lqn_close(struct lqn *net)
{
    if (!net)
        return;
    threads_stop(net->threads);
    for (int i = 0; net->plans && i < net->file.count[POINTS]; i++)
        plan_free(net->plans[i]);
    free(net->plans);
    free(net->prepared);
    pool_free(&net->pool);
    free(net->arena);
    free(net->packed);
    free(net->scratch);
    free(net->sums);
    file_free(&net->file);
    free(net);
}
