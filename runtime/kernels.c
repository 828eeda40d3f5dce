/* Chooses the best set of kernels that the machine has. */
#if defined(__APPLE__)
/* Or the header hides what it needs itself. */
#define _DARWIN_C_SOURCE
#endif

#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

extern const struct kernels PORTABLE, AVX2, NEON, NEON_DOT;

static bool is_there(void)
{
    return true;
}

#if defined(__x86_64__)
/* By cpuid, not by __builtin_cpu_supports, which not all compilers fill in. */
static bool has_avx2(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return false;
    bool fma = c >> 12 & 1, saves = c >> 27 & 1;
    if (!fma || !saves || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (b >> 5 & 1) && (low & 6) == 6;
}
#endif

#if defined(__aarch64__)
static bool has_dot_products(void)
{
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* ASIMDDP */
#elif defined(__APPLE__)
    int found = 0;
    size_t size = sizeof found;
    return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, NULL, 0) && found;
#else
    return false;
#endif
}
#endif

/* The best first. */
static const struct {
    const struct kernels *kernels;
    bool (*is_there)(void);
} SETS[] = {
#if defined(__x86_64__)
    {&AVX2, has_avx2},
#endif
#if defined(__aarch64__)
    {&NEON_DOT, has_dot_products},
    {&NEON, is_there},
#endif
    {&PORTABLE, is_there},
};

const struct kernels *kernels_of(const char *name)
{
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++) {
        const struct kernels *found = SETS[i].kernels;
        if ((!name || !*name || !strcmp(found->name, name)) && SETS[i].is_there())
            return found;
    }
    return NULL;
}
