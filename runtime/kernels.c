/* Chooses the best set of kernels that the machine has. */
#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

extern const struct kernels PORTABLE, AVX2;

/* By cpuid, not by __builtin_cpu_supports, which not all compilers fill in. */
static bool has_avx2(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return false;
    bool fma = c >> 12 & 1, saves = c >> 27 & 1;
    if (!fma || !saves || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (b >> 5 & 1) && (low & 6) == 6;
#else
    return false;
#endif
}

static const struct kernels *kernels_at(int place)
{
    switch (place) {
#if defined(__x86_64__)
    case 0:
        return has_avx2() ? &AVX2 : NULL;
#endif
    case 1:
        return &PORTABLE;
    default:
        return NULL;
    }
}

const struct kernels *kernels_of(const char *name)
{
    for (int place = 0; place < 2; place++) {
        const struct kernels *found = kernels_at(place);
        if (found && (!name || !*name || !strcmp(found->name, name)))
            return found;
    }
    return NULL;
}
