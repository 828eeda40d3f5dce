/* Reads the texts of a file that scripts.export wrote, and chooses a point by them. */
#include "classify.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cjson/cJSON.h>

static double recorded(const cJSON *record, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(record, name);
    return cJSON_IsNumber(value) ? value->valuedouble : -1;
}

static const char *said(const cJSON *record, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, name));
}

/* A member of a text that has to be there. */
static const char *needed(const struct model *model, const cJSON *record, const char *name)
{
    const char *value = said(record, name);
    if (!value)
        fail("%s: does not say its %s; expected a file of scripts.export", model->path, name);
    return value;
}

/* Of a point that chooses image by image, the means that evaluation recorded, if it has. Thresholds
 * of exits give several, of which none is said to be the file's. */
static void read_means(const cJSON *budgets, struct point *point)
{
    const cJSON *one;
    point->top1 = point->madds = -1;
    cJSON_ArrayForEach(one, budgets)
    {
        const char *name = said(one, "point");
        const cJSON *thresholds = cJSON_GetObjectItemCaseSensitive(one, "thresholds");
        if (name && strcmp(name, point->name) == 0 && cJSON_GetArraySize(thresholds) == 0) {
            point->top1 = recorded(one, "top1");
            point->madds = recorded(one, "madds");
        }
    }
}

/* Of a cascade, the means of the images that it was judged on by the thresholds of the file. */
static void read_judged(const cJSON *cascade, struct point *point)
{
    point->top1 = recorded(cascade, "validation_top1");
    point->madds = recorded(cascade, "validation_madds");
}

void model_read(const char *path, struct model *model)
{
    *model = (struct model){.path = path};
    model->bytes = read_file(path, &model->size);
    model->class_names = read_text(model, "class_names");
    model->points = read_text(model, "points");
    model->images = read_text(model, "images");
    model->augmentation = needed(model, model->images, "augmentation");
    model->resize = needed(model, model->images, "resize");
    if (strcmp(needed(model, model->images, "dtype"), "uint8") != 0)
        fail("%s: leaves preprocessing to others; export it without --no-preprocess", path);
    if (strcmp(needed(model, model->images, "channels"), "BGR") != 0)
        fail("%s: is of grey images, which this program does not make", path);
    cJSON *choices = read_text(model, "choices"), *budgets = read_text(model, "budgets");
    cJSON *cascade = read_text(model, "cascade");
    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(cascade, "sides")))
        fail("%s: takes the image in several sizes, which this program does not make", path);
    model->count = cJSON_GetArraySize(model->points);
    model->point = allocate((size_t)model->count, sizeof *model->point);
    for (int i = 0; i < model->count; i++) {
        const cJSON *record = cJSON_GetArrayItem(model->points, i);
        struct point *point = &model->point[i];
        point->name = needed(model, record, "point");
        point->side = (int)recorded(record, "side");
        point->top1 = recorded(record, "top1");
        point->madds = recorded(record, "madds");
        if (cascade)
            read_judged(cascade, point);
        else if (choices)
            read_means(budgets, point);
        if (point->side < 1 || point->side > 8192)
            fail("%s: %s is of images of %d pixels", path, point->name, point->side);
    }
    if (!model->count)
        fail("%s: has no points; expected a file of scripts.export", path);
    cJSON_Delete(choices);
    cJSON_Delete(budgets);
    cJSON_Delete(cascade);
}

void model_free(struct model *model)
{
    cJSON_Delete(model->class_names);
    cJSON_Delete(model->points);
    cJSON_Delete(model->images);
    free(model->point);
    free(model->bytes);
}

int model_find(const struct model *model, const char *name)
{
    size_t length = 1;
    for (int i = 0; i < model->count; i++) {
        if (strcmp(model->point[i].name, name) == 0)
            return i;
        length += strlen(model->point[i].name) + 1;
    }
    char *known = allocate(length, 1);
    for (int i = 0; i < model->count; i++) {
        strcat(known, " ");
        strcat(known, model->point[i].name);
    }
    fail("--point %s: %s has%s", name, model->path, known);
}

/* Multiply-adds that a text such as 5M says. */
static double parse_budget(const char *text)
{
    static const struct { const char *name; double factor; } UNITS[] = {
        {"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9},
    };
    char *rest;
    double number = strtod(text, &rest);
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
        double value = number * UNITS[i].factor;
        if (rest > text && strcasecmp(rest, UNITS[i].name) == 0 && value > 0 && isfinite(value))
            return value;
    }
    fail("--budget %s: expected multiply-adds such as 60M or 1.2G", text);
}

int model_within(const struct model *model, const char *budget)
{
    double most = parse_budget(budget);
    double least = INFINITY;
    int best = -1;
    for (int i = 0; i < model->count; i++) {
        const struct point *point = &model->point[i];
        if (point->madds < 0 || point->top1 < 0)
            continue;
        least = fmin(least, point->madds);
        if (point->madds <= most && (best < 0 || point->top1 > model->point[best].top1))
            best = i;
    }
    if (isinf(least))
        fail("--budget %s: %s records no costs; give --point", budget, model->path);
    if (best < 0)
        fail("--budget %s: the least that a point of %s takes is %.2fM", budget, model->path,
             least / 1e6);
    return best;
}

const char *model_class(const struct model *model, size_t label)
{
    return cJSON_GetStringValue(cJSON_GetArrayItem(model->class_names, (int)label));
}
