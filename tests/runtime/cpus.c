/* Which instructions follow from what a processor says: a word for each, of six hexadecimal numbers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu.h"

int main(int count, char **words)
{
    if (count != 7)
        return 2;
    uint64_t given[6];
    for (int i = 0; i < 6; i++)
        given[i] = strtoull(words[i + 1], NULL, 16);
    struct registers of = {.saved = given[5]};
    of.ecx1 = (uint32_t)given[0];
    of.ebx7 = (uint32_t)given[1];
    of.ecx7 = (uint32_t)given[2];
    of.edx7 = (uint32_t)given[3];
    of.eax7_1 = (uint32_t)given[4];
    unsigned has = features_of(&of);
    const struct {
        unsigned bit;
        const char *word;
    } words_of[] = {{HAS_AVX2, "avx2"}, {HAS_AVX_VNNI, "avxvnni"}, {HAS_AVX512_VNNI, "avx512vnni"},
                    {HAS_AMX, "amx"}, {HAS_CARRY_LESS, "carryless"}};
    for (int i = 0; i < 5; i++) {
        if (has & words_of[i].bit)
            printf("%s ", words_of[i].word);
    }
    return 0;
}
