/* Damages a file many times, and runs what is left of it: refused, or answered, but never a crash.
 *
 *     damage FILE COUNT SEED
 *
 * Checksums are made right again, so that what follows them is reached. It is compiled with the
 * library's sources and the sanitizers of the compiler. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/bytes.h"
#include "../../runtime/lqn.h"

enum { SECTIONS_AT = 64, MOST_CHANGES = 4, LARGEST_RUN = 1 << 16 };

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static void put(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

/* A number that is likely to hurt. */
static uint32_t hurting(uint32_t old)
{
    const uint32_t known[] = {0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    switch (draw(4)) {
    case 0:
        return known[draw(sizeof known / sizeof *known)];
    case 1:
        return old + draw(9) - 4;
    case 2:
        return old ^ 1u << draw(32);
    default:
        return draw(64);
    }
}

static void damage(uint8_t *bytes, size_t size)
{
    size_t head = u32_at(bytes + 12);
    int changes = 1 + (int)draw(MOST_CHANGES);
    for (int i = 0; i < changes; i++) {
        size_t end = draw(8) ? head : size;
        size_t at = SECTIONS_AT + draw((uint32_t)(end - SECTIONS_AT - 4) / 4) * 4;
        if (draw(3))
            put(bytes + at, hurting(u32_at(bytes + at)));
        else
            bytes[at + draw(4)] = (uint8_t)hurting(bytes[at]);
    }
}

/* Makes the checksums right, as far as there is something to sum up. */
static void repair(uint8_t *bytes, size_t size)
{
    size_t head = u32_at(bytes + 12), place = u32_at(bytes + SECTIONS_AT), count = u32_at(bytes + SECTIONS_AT + 4);
    for (size_t i = 0; i < count && place + 24 * (i + 1) <= head; i++) {
        uint8_t *entry = bytes + place + 24 * i;
        uint64_t at = u64_at(entry), length = u64_at(entry + 8);
        if (at <= size && length <= size - at)
            put(entry + 16, checksum(bytes + at, (size_t)length));
    }
    put(bytes + 24, checksum(bytes + 64, head - 64));
    put(bytes + 60, checksum(bytes, 60));
}

/* Runs every point whose images and answers are not too large; gives how many ran. */
static int run_all(struct lqn *net)
{
    static uint8_t pixels[LARGEST_RUN];
    static float logits[LARGEST_RUN];
    static int32_t executed[LARGEST_RUN];
    int ran = 0;
    for (int i = 0; i < lqn_points(net); i++) {
        struct lqn_point about;
        const uint8_t *views[64];
        size_t largest = 0;
        if (lqn_point(net, i, &about) || lqn_set_point(net, i))
            continue;
        for (int view = 0; view < about.views; view++) {
            size_t side = (size_t)(view ? about.sides[view - 1] : about.side);
            size_t bytes = side * side * (size_t)about.channels;
            largest = bytes > largest ? bytes : largest;
            views[view] = pixels;
        }
        if (largest > LARGEST_RUN || lqn_classes(net) > LARGEST_RUN || about.choices > LARGEST_RUN)
            continue;
        ran += !lqn_run(net, views, 1, logits, executed);
    }
    return ran;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    static uint8_t good[1 << 24], bad[1 << 24];
    if (!file)
        return 2;
    size_t size = fread(good, 1, sizeof good, file);
    long count = strtol(argv[2], NULL, 10), opened = 0, ran = 0;
    char why[LQN_TEXT];
    fclose(file);
    state = strtoull(argv[3], NULL, 10);
    for (long i = 0; i < count; i++) {
        memcpy(bad, good, size);
        damage(bad, size);
        repair(bad, size);
        struct lqn *net = lqn_open_bytes(bad, size, why, sizeof why);
        if (!net)
            continue;
        opened++;
        ran += run_all(net) > 0;
        lqn_close(net);
    }
    printf("%ld damaged, %ld opened, %ld ran\n", count, opened, ran);
    return 0;
}
