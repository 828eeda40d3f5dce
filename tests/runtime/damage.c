/* Damages a file many times, and asks what is left of it for all that lqn.h offers: it is refused or
 * answered, and answered alike however it is asked, but never a crash.
 *
 *     damage FILE COUNT SEED
 *
 * The file of seed S and number N is that of seed S + N and number 0. Of most, checksums are made right
 * again, so that what follows them is reached; the others must be refused. It is compiled with the
 * library's sources and the sanitizers of the compiler. */
#include <sanitizer/common_interface_defs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/bytes.h"
#include "../../runtime/lqn.h"

enum { HEAD_AT = 64, MOST_CHANGES = 4, LARGEST_RUN = 1 << 16, MOST_VIEWS = 64, MOST_ROOM = 48 };

static uint64_t seed;
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

/* Puts other numbers into the head, most often, or anywhere; gives how many bytes are left. */
static size_t damage(uint8_t *bytes, size_t size)
{
    size_t head = u32_at(bytes + 12);
    int changes = 1 + (int)draw(MOST_CHANGES);
    for (int i = 0; i < changes; i++) {
        size_t start = draw(16) ? HEAD_AT : 0, end = draw(8) ? head : size;
        size_t at = start + draw((uint32_t)(end - start - 4) / 4) * 4;
        if (draw(3))
            put(bytes + at, hurting(u32_at(bytes + at)));
        else
            bytes[at + draw(4)] = (uint8_t)hurting(bytes[at]);
    }
    return draw(16) ? size : draw((uint32_t)size);
}

/* Where the section i of a file ends; 0 where there is no such section. */
static size_t section_end(const uint8_t *bytes, size_t size, size_t i)
{
    size_t head = u32_at(bytes + 12), place = u32_at(bytes + HEAD_AT);
    if (head > size || i >= u32_at(bytes + HEAD_AT + 4) || place + 24 * (i + 1) > head)
        return 0;
    const uint8_t *entry = bytes + place + 24 * i;
    uint64_t at = u64_at(entry), length = u64_at(entry + 8);
    return at <= size && length <= size - at ? (size_t)(at + length) : 0;
}

/* Makes the checksums right, as far as there is something to sum up. */
static void repair(uint8_t *bytes, size_t size)
{
    size_t head = u32_at(bytes + 12);
    if (size < HEAD_AT + 8 || head < HEAD_AT || head > size)
        return;
    for (size_t i = 0, end; (end = section_end(bytes, size, i)) != 0; i++) {
        uint8_t *entry = bytes + u32_at(bytes + HEAD_AT) + 24 * i;
        size_t at = (size_t)u64_at(entry);
        put(entry + 16, checksum(bytes + at, end - at));
    }
    put(bytes + 24, checksum(bytes + HEAD_AT, head - HEAD_AT));
    put(bytes + 60, checksum(bytes, 60));
}

static void say_which(void)
{
    fprintf(stderr, "this was the file of seed %llu\n", (unsigned long long)seed);
}

static void check(bool good, const char *otherwise)
{
    if (good)
        return;
    fprintf(stderr, "%s; ", otherwise);
    say_which();
    exit(1);
}

static uint8_t pixels[LARGEST_RUN];

/* Sets a point and its images; false where they, or its answers, are too large, or it cannot run. */
static bool set(struct lqn *net, int place, const uint8_t **views, struct lqn_point *about)
{
    size_t largest = 0;
    check(!lqn_point(net, place, about) && about->name[strlen(about->name)] == 0, "a point is not told");
    if (lqn_set_point(net, place))
        return false;
    check(about->is_here, "a point is set that is not here");
    for (int view = 0; view < about->views; view++) {
        size_t side = (size_t)(view ? about->sides[view - 1] : about->side);
        size_t bytes = side * side * (size_t)about->channels;
        largest = bytes > largest ? bytes : largest;
        views[view] = pixels;
    }
    return largest <= LARGEST_RUN && lqn_classes(net) <= LARGEST_RUN && about->choices <= LARGEST_RUN;
}

/* Adds the answers of all points to a checksum; gives how many ran. */
static int answer(struct lqn *net, uint32_t *sum)
{
    static float logits[LARGEST_RUN];
    static int32_t executed[LARGEST_RUN];
    int ran = 0;
    for (int i = 0; i < lqn_points(net); i++) {
        struct lqn_point about;
        const uint8_t *views[MOST_VIEWS];
        if (!set(net, i, views, &about) || lqn_run(net, views, 1, logits, executed))
            continue;
        size_t classes = (size_t)lqn_classes(net), choices = (size_t)about.choices;
        const uint32_t sums[] = {
            *sum,
            (uint32_t)i,
            checksum((const uint8_t *)logits, classes * sizeof *logits),
            checksum((const uint8_t *)executed, choices * sizeof *executed),
        };
        *sum = checksum((const uint8_t *)sums, sizeof sums);
        ran++;
    }
    return ran;
}

/* Times all points, with room for any number of steps; gives how many ran. */
static int time_steps(struct lqn *net)
{
    int ran = 0;
    for (int i = 0; i < lqn_points(net); i++) {
        struct lqn_point about;
        const uint8_t *views[MOST_VIEWS];
        if (!set(net, i, views, &about))
            continue;
        int room = (int)draw(MOST_ROOM);
        /* Memory of its own, where a sanitizer sees its end. */
        struct lqn_step *steps = malloc((size_t)room * sizeof *steps);
        int count = lqn_time(net, views, steps, room);
        for (int k = 0; k < count && k < room; k++)
            check(steps[k].seconds >= 0 && strlen(steps[k].name) < (1 << 24), "a step is not told");
        ran += count >= 0;
        free(steps);
    }
    return ran;
}

/* Opens what a file is up to the end of a section, and appends the rest. */
static void append(const uint8_t *bytes, size_t size, int ran, uint32_t expected)
{
    char why[LQN_TEXT];
    uint32_t before = 0, sum = 0;
    size_t end = section_end(bytes, size, draw(2));
    struct lqn *net = end ? lqn_open_bytes(bytes, end, why, sizeof why) : NULL;
    check(net || !end, "a section does not end a file");
    if (!net)
        return;
    check(answer(net, &before) <= ran, "more points run of a part");
    check(!lqn_append(net, bytes + end, size - end), "the rest is refused");
    check(answer(net, &sum) == ran && sum == expected, "a file in two parts answers otherwise");
    lqn_close(net);
}

/* Asks a network in all ways; gives how many points ran. */
static int ask(struct lqn *net, const uint8_t *bytes, size_t size)
{
    uint32_t expected = 0, sum = 0;
    int ran = answer(net, &expected);
    check(time_steps(net) == ran, "another number of points can be timed");
    if (!draw(16))
        check(!lqn_set_threads(net, 2 + (int)draw(2)), "there are no threads");
    check(answer(net, &sum) == ran && sum == expected, "it answers otherwise a second time");
    if (!draw(8))
        append(bytes, size, ran, expected);
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
    uint64_t first = strtoull(argv[3], NULL, 10);
    char why[LQN_TEXT];
    fclose(file);
    for (uint32_t i = 0; i < LARGEST_RUN; i++)
        pixels[i] = (uint8_t)(i * i >> 4);
    __sanitizer_set_death_callback(say_which);
    for (seed = first; seed < first + (uint64_t)count; seed++) {
        state = seed * 0x9E3779B97F4A7C15u;
        memcpy(bad, good, size);
        size_t left = damage(bad, size);
        bool repaired = draw(8) != 0;
        if (repaired)
            repair(bad, left);
        struct lqn *net = lqn_open_bytes(bad, left, why, sizeof why);
        check(!net || repaired || !memcmp(bad, good, left), "wrong checksums are not refused");
        if (!net)
            continue;
        opened++;
        ran += ask(net, bad, left) > 0;
        lqn_close(net);
    }
    printf("%ld damaged, %ld opened, %ld ran\n", count, opened, ran);
    return 0;
}
