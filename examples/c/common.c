/* Files, memory and the end of the program where the input is wrong. */
#include "classify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *program = "classify";

void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(2);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("%zu x %zu bytes: there is not so much memory", count, size);
    return memory;
}

unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    size_t room = 1 << 16;
    unsigned char *bytes = allocate(room + 1, 1);
    *size = 0;
    for (;;) {
        *size += fread(bytes + *size, 1, room - *size, file);
        if (*size < room)
            break;
        room *= 2;
        bytes = realloc(bytes, room + 1);
        if (!bytes)
            fail("%s: does not fit into memory", path);
    }
    if (ferror(file))
        fail("%s: %s", path, strerror(errno));
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}
