/* Chooses the best set of kernels that the machine has. */
#include "kernels.h"

#include <string.h>

#include "cpu.h"

extern const struct kernels PORTABLE, AVX2, AVXVNNI, AVX512VNNI, AMX, NEON, NEON_DOT;

/* Sets and the instructions that they need, the best first. */
static const struct {
    const struct kernels *kernels;
    unsigned needs;
} SETS[] = {
#if defined(__x86_64__)
    {&AMX, HAS_AMX},
    {&AVX512VNNI, HAS_AVX512_VNNI},
    {&AVXVNNI, HAS_AVX_VNNI},
    {&AVX2, HAS_AVX2},
#endif
#if defined(__aarch64__)
    {&NEON_DOT, HAS_DOT_PRODUCTS},
    {&NEON, 0},
#endif
    {&PORTABLE, 0},
};

/* Tiles are asked for only where they would be used. */
static bool is_there(unsigned needs, unsigned has)
{
    return (needs & ~has) == 0 && (needs != HAS_AMX || cpu_allows_tiles());
}

const struct kernels *kernels_of(const char *name)
{
    unsigned has = cpu_features();
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++) {
        const struct kernels *found = SETS[i].kernels;
        bool asked = !name || !*name || !strcmp(found->name, name);
        if (asked && is_there(SETS[i].needs, has))
            return found;
    }
    return NULL;
}
