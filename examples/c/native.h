/* native.c: files `.lqn`. */
#ifndef NATIVE_H
#define NATIVE_H

#include "../../runtime/lqn.h"
#include "classify.h"

/* The file in the library, which is opened once for its texts and its points. */
struct lqn *native_opened(const struct model *model);

#endif
