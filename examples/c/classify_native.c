/* A network in the library of this suite, see runtime/lqn.h: nothing else is needed. */
#include "classify.h"

#include <stdio.h>
#include <stdlib.h>

#include "native.h"

struct network {
    struct lqn *lqn;
    float *logits;
    char runtime[48];
};

struct network *network_load(const struct model *model, int point)
{
    struct network *network = allocate(1, sizeof *network);
    network->lqn = native_opened(model);
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
