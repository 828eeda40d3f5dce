/* Answers images with networks, where only a C program runs: under an emulator.
 *
 *     answer POINT THREADS COUNT { FILE IMAGES ANSWERS }...
 *
 * IMAGES holds the COUNT images of each view, one view behind the other. Into ANSWERS go the logits of
 * all images, and what was executed for each. The name of the kernels is printed. It is compiled with
 * the library's sources. */
#include <stdio.h>
#include <stdlib.h>

#include "../../runtime/lqn.h"

enum { MOST_VIEWS = 64 };

static void fail(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(1);
}

static void *taken(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory)
        fail("answer", "there is not enough memory");
    return memory;
}

/* Opens a file, and reads `size` bytes of it. */
static uint8_t *contents(const char *path, size_t size)
{
    uint8_t *bytes = taken(size);
    FILE *file = fopen(path, "rb");
    if (!file || fread(bytes, 1, size, file) != size || fgetc(file) != EOF)
        fail(path, "does not hold the images");
    fclose(file);
    return bytes;
}

/* Bytes of the images of a view of a point. */
static size_t view_bytes(const struct lqn_point *about, int view, size_t count)
{
    size_t side = (size_t)(view ? about->sides[view - 1] : about->side);
    return count * side * side * (size_t)about->channels;
}

static void answer(struct lqn *net, int point, size_t count, const char *images, const char *answers)
{
    struct lqn_point about;
    const uint8_t *views[MOST_VIEWS];
    size_t size = 0;
    if (lqn_set_point(net, point) || lqn_point(net, point, &about))
        fail(images, lqn_error(net));
    for (int view = 0; view < about.views; view++)
        size += view_bytes(&about, view, count);
    uint8_t *pixels = contents(images, size), *next = pixels;
    for (int view = 0; view < about.views; view++) {
        views[view] = next;
        next += view_bytes(&about, view, count);
    }
    size_t numbers = count * (size_t)lqn_classes(net), choices = count * (size_t)about.choices;
    float *logits = taken(numbers * sizeof *logits);
    int32_t *executed = taken(choices * sizeof *executed);
    if (lqn_run(net, views, count, logits, executed))
        fail(images, lqn_error(net));
    FILE *file = fopen(answers, "wb");
    if (!file || fwrite(logits, sizeof *logits, numbers, file) != numbers ||
        fwrite(executed, sizeof *executed, choices, file) != choices || fclose(file))
        fail(answers, "cannot be written");
    free(pixels);
    free(logits);
    free(executed);
}

int main(int argc, char **argv)
{
    if (argc < 7 || (argc - 4) % 3)
        fail("answer", "POINT THREADS COUNT { FILE IMAGES ANSWERS }...");
    int point = atoi(argv[1]), threads = atoi(argv[2]);
    size_t count = strtoul(argv[3], NULL, 10);
    for (int i = 4; i < argc; i += 3) {
        char why[LQN_TEXT];
        struct lqn *net = lqn_open(argv[i], why, sizeof why);
        if (!net)
            fail(argv[i], why);
        if (lqn_set_threads(net, threads))
            fail(argv[i], lqn_error(net));
        answer(net, point, count, argv[i + 1], argv[i + 2]);
        puts(lqn_kernels(net));
        lqn_close(net);
    }
    return 0;
}
