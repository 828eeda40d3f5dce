/* Answers with the few bits that have arrived, and better with those that follow:
 *
 *     python -m scripts.export net.lqn --bits-first 2 --out first.lqn
 *     tail -c +$(($(stat -c %s first.lqn) + 1)) net.lqn | refine first.lqn /dev/stdin bear.jpg
 *
 * What follows could come from a server as well: curl -r PLACE- URL. */
#include "classify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

static const char USAGE[] = "usage: %s FIRST.lqn REST IMAGE.jpg\n";

struct image {
    unsigned char *pixels;
    int width, height;
};

/* Prints the best class of an image at a point, with its probability. */
static void answer(const struct model *model, int place, const struct image *image)
{
    struct lqn *lqn = native_opened(model);
    if (lqn_set_point(lqn, place))
        fail("%s: %s", model->path, lqn_error(lqn));
    size_t count = (size_t)lqn_classes(lqn), side = (size_t)model->point[place].side, best = 0;
    float *logits = allocate(count, sizeof *logits);
    unsigned char *view = allocate(side * side, 3);
    make_view(image->pixels, image->width, image->height, model->augmentation, model->resize, (int)side, view);
    const uint8_t *views[] = {view};
    if (lqn_run(lqn, views, 1, logits, NULL))
        fail("%s: %s", model->path, lqn_error(lqn));
    double sum = 0;
    for (size_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    for (size_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - (double)logits[best]);
    const char *name = model_class(model, best);
    char number[32];
    snprintf(number, sizeof number, "class %zu", best);
    printf("%s: %s %.3f\n", model->point[place].name, name ? name : number, 1 / sum);
    free(view);
    free(logits);
}

/* Answers at every point whose bits are there. */
static void answer_all(const struct model *model, const struct image *image)
{
    for (int i = 0; i < model->count; i++) {
        struct lqn_point about;
        if (!lqn_point(native_opened(model), i, &about) && about.is_here)
            answer(model, i, image);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    if (argc != 4) {
        fprintf(stderr, USAGE, program);
        return 2;
    }
    struct model model;
    struct image image;
    model_read(argv[1], &model);
    image.pixels = jpeg_read(argv[3], &image.width, &image.height);
    answer_all(&model, &image);

    size_t size;
    unsigned char *rest = read_file(argv[2], &size); /* waits until all has arrived */
    struct lqn *lqn = native_opened(&model);
    if (lqn_append(lqn, rest, size))
        fail("%s: %s", argv[2], lqn_error(lqn));
    printf("%zu bytes more\n", size);
    free(rest);
    answer_all(&model, &image);

    lqn_close(lqn);
    free(image.pixels);
    model_free(&model);
    return 0;
}
