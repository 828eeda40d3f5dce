/* Asks the processor, and the system, what there is. */
#if defined(__linux__)
#define _GNU_SOURCE /* syscall */
#elif defined(__APPLE__)
/* Or the header hides what it needs itself. */
#define _DARWIN_C_SOURCE
#endif

#include "cpu.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#if defined(__x86_64__)
/* By cpuid, not by __builtin_cpu_supports, which not all compilers fill in. */
unsigned cpu_features(void)
{
    struct registers of = {0};
    uint32_t parts, b, c, d;
    if (!__get_cpuid(1, &parts, &b, &of.ecx1, &d))
        return 0;
    if (!__get_cpuid_count(7, 0, &parts, &of.ebx7, &of.ecx7, &of.edx7))
        return 0;
    if (parts && !__get_cpuid_count(7, 1, &of.eax7_1, &b, &c, &d))
        return 0;
    bool saves = of.ecx1 >> 27 & 1;
    if (saves) {
        uint32_t low, high;
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        of.saved = (uint64_t)high << 32 | low;
    }
    return features_of(&of);
}
#elif defined(__aarch64__) && defined(__linux__)
unsigned cpu_features(void)
{
    return getauxval(AT_HWCAP) >> 20 & 1 ? HAS_DOT_PRODUCTS : 0; /* ASIMDDP */
}
#elif defined(__aarch64__) && defined(__APPLE__)
unsigned cpu_features(void)
{
    int found = 0;
    size_t size = sizeof found;
    bool told = !sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, NULL, 0);
    return told && found ? HAS_DOT_PRODUCTS : 0;
}
#else
unsigned cpu_features(void)
{
    return 0;
}
#endif

bool cpu_allows_tiles(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of asm/prctl.h, Linux 5.16 */
    return !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
#else
    return false;
#endif
}
