/* Files `.lqn` in the library of this suite, see runtime/lqn.h: nothing else is needed. */
#include "native.h"

#include <cjson/cJSON.h>

struct lqn *native_opened(const struct model *model)
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
    const char *text = lqn_text(native_opened(model), name);
    return text ? cJSON_Parse(text) : NULL;
}
