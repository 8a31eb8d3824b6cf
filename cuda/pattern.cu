/* pattern.cu - memory written with a pattern and checked for it: fill, poison, and guard regions behind many blocks at once.
 *
 * A pattern is 16 bytes (shorter ones repeated by the caller), given as two words, the low one first in memory; byte i of a region gets
 * byte i % 16 of it, wherever the region starts. A region that does not hold its pattern any more is reported by the offset of its first
 * foreign byte; INTACT where there is none.
 */
#include "common.cuh"

#define INTACT 0xFFFFFFFFFFFFFFFFull

union Pattern {
  u64 word[2];
  uint4 raw;
  u8 byte[PACK_BYTES];
  __device__ Pattern() {}
};

/* The pattern as it lies from offset `start` of a region on. */
__device__ inline Pattern pattern_from(u64 low, u64 high, u64 start) {
  u32 shift = (u32)(start & 7) * 8;
  u64 first = start & 8 ? high : low, second = start & 8 ? low : high;
  Pattern turned;
  turned.word[0] = shift == 0 ? first : first >> shift | second << (64 - shift);
  turned.word[1] = shift == 0 ? second : second >> shift | first << (64 - shift);
  return turned;
}

__device__ inline u8 pattern_byte(u64 low, u64 high, u64 offset) { return (u8)((offset & 8 ? high : low) >> (offset & 7) * 8); }

extern "C" __global__ void fill_pattern(u64 nbytes, u64 low, u64 high, u8 *out) {
  Pattern turned = pattern_from(low, high, split_packs(out, nbytes).head);
  for_each(out, nbytes, [=](u64 i) { *(uint4 *)(out + i) = turned.raw; }, [=](u64 i) { out[i] = pattern_byte(low, high, i); });
}

/* The offset of the first byte of a pack that differs, PACK_BYTES where none does. */
__device__ inline u64 first_difference(const Pattern &found, const Pattern &wanted) {
  for (int k = 0; k < 2; k++) {
    u64 difference = found.word[k] ^ wanted.word[k];
    if (difference != 0) return 8 * k + (__ffsll((i64)difference) - 1) / 8;
  }
  return PACK_BYTES;
}

/* *foreign: INTACT at the start; the least offset at which the memory differs from the pattern afterwards. */
extern "C" __global__ void check_pattern(u64 nbytes, u64 low, u64 high, const u8 *memory, u64 *foreign) {
  Pattern wanted = pattern_from(low, high, split_packs(memory, nbytes).head);
  u64 least = INTACT;
  for_each(
      memory, nbytes,
      [&](u64 i) {
        Pattern found;
        found.raw = *(const uint4 *)(memory + i);
        u64 k = first_difference(found, wanted);
        if (k < PACK_BYTES && i + k < least) least = i + k;
      },
      [&](u64 i) {
        if (memory[i] != pattern_byte(low, high, i) && i < least) least = i;
      });
  if (least != INTACT) atomicMin(foreign, least);
}

/* Guard regions: a block of threads for each, in turn. They are short (tens of bytes to a page), so bytes are good enough. */
extern "C" __global__ void set_guards(u64 count, u64 low, u64 high, u8 *const *starts, const u64 *sizes) {
  for (u64 region = blockIdx.x; region < count; region += gridDim.x)
    for (u64 i = threadIdx.x; i < sizes[region]; i += blockDim.x) starts[region][i] = pattern_byte(low, high, i);
}

/* foreign[region]: INTACT at the start, as of check_pattern. */
extern "C" __global__ void check_guards(u64 count, u64 low, u64 high, const u8 *const *starts, const u64 *sizes, u64 *foreign) {
  for (u64 region = blockIdx.x; region < count; region += gridDim.x)
    for (u64 i = threadIdx.x; i < sizes[region]; i += blockDim.x)
      if (starts[region][i] != pattern_byte(low, high, i)) {
        atomicMin(foreign + region, i);
        break;
      }
}
