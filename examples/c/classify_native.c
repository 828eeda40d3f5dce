/* A network in the library of this suite, see runtime/lqn.h: nothing else is needed. */
#include "classify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "../../runtime/lqn.h"

struct network {
    struct lqn *lqn;
    float *logits;
    char runtime[48];
};

/* The file in the library, which is opened once for its texts and its points. */
static struct lqn *opened(const struct model *model)
{
    static struct lqn *lqn;
    char why[LQN_TEXT];
    if (!lqn)
        lqn = lqn_open_bytes(model->bytes, model->size, why, sizeof why);
    if (!lqn)
        fail("%s: %s", model->path, why);
    return lqn;
}

cJSON *read_text(const struct model *model, const char *name)
{
    const char *text = lqn_text(opened(model), name);
    return text ? cJSON_Parse(text) : NULL;
}

struct network *network_load(const struct model *model, int point)
{
    struct network *network = allocate(1, sizeof *network);
    network->lqn = opened(model);
    if (lqn_set_point(network->lqn, point))
        fail("%s: %s", model->path, lqn_error(network->lqn));
    network->logits = allocate((size_t)lqn_classes(network->lqn), sizeof *network->logits);
    snprintf(network->runtime, sizeof network->runtime, "lqn (%s)", lqn_kernels(network->lqn));
    return network;
}

const float *network_run(struct network *network, const unsigned char *view, size_t *count)
{
    const uint8_t *views[] = {view};
    if (lqn_run(network->lqn, views, 1, network->logits, NULL))
        fail("%s", lqn_error(network->lqn));
    *count = (size_t)lqn_classes(network->lqn);
    return network->logits;
}

const char *network_runtime(const struct network *network)
{
    return network->runtime;
}

void network_free(struct network *network)
{
    lqn_close(network->lqn);
    free(network->logits);
    free(network);
}
