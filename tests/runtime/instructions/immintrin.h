/* Instructions that a machine with AVX2 lacks, for tests: what kernels for AVX-512, VNNI and AMX call is
 * computed by SIMDe and, of tiles, by tiles.h. Found before the compiler's own header. */
#ifndef INSTRUCTIONS_IMMINTRIN_H
#define INSTRUCTIONS_IMMINTRIN_H

#pragma GCC system_header
#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/dpbusd.h>
#include <simde/x86/avx512/fmadd.h>

#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32

#include "tiles.h"

#endif
