/* What the readers of tables share. */
#ifndef TABLES_H
#define TABLES_H

#include "bytes.h"
#include "file.h"

enum { HEADER = 64, MOST_SIDE = 1 << 14 };

static const uint32_t NOTHING = 0xFFFFFFFF;
/* Bytes of an entry. */
static const uint32_t ENTRY[TABLES] = {24, 40, 24, 48, 20, 32, 16, 16, 16, 8, 4, 1};

/* Whether `count` entries from `first` on lie in a table. */
static inline bool within(const struct file *file, enum table table, uint32_t first, uint32_t count)
{
    return (uint64_t)first + count <= (uint64_t)file->count[table];
}

/* The string at a place; NULL where there is none. */
static inline const char *string_at(const struct file *file, uint32_t place)
{
    if (place >= (uint32_t)file->count[STRINGS])
        return NULL;
    return file->strings + place;
}

static inline const uint8_t *table_at(const struct file *file, enum table table)
{
    return file->bytes + u32_at(file->bytes + HEADER + 8 * table);
}

/* graphs.c: operations, and points, whose other tables were read. */
bool read_graphs(struct file *file, struct complaint why);
bool read_points(struct file *file, struct complaint why);

#endif
