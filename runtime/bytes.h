/* Little-endian numbers in bytes, on any machine. */
#ifndef BYTES_H
#define BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t u16_at(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t u32_at(const uint8_t *at)
{
    return u16_at(at) | u16_at(at + 2) << 16;
}

static inline uint64_t u64_at(const uint8_t *at)
{
    return (uint64_t)u32_at(at) | (uint64_t)u32_at(at + 4) << 32;
}

static inline void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline float f32_at(const uint8_t *at)
{
    uint32_t bits = u32_at(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* CRC-32 as of zlib. */
uint32_t checksum(const uint8_t *bytes, size_t size);

#endif
