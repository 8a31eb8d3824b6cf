/* copy.cu - copies between layouts: contiguous bytes, rows of contiguous bytes, and any strides element by element.
 *
 * A layout has its dimensions outermost first, merged by the caller where they can be; strides are bytes and may be 0 or negative. The
 * memories do not overlap. Cost: bytes and rows move in 16 bytes; the element-wise way divides once per dimension and element.
 */
#include "common.cuh"

#define MAX_DIMENSIONS 32

struct Layout {
  i64 dimensions; /* <= MAX_DIMENSIONS */
  u64 shape[MAX_DIMENSIONS];
  i64 to_strides[MAX_DIMENSIONS], from_strides[MAX_DIMENSIONS]; /* bytes */
};

/* The offsets of element `number`, in C order. */
__device__ inline void find_offsets(const Layout &layout, u64 number, i64 *to, i64 *from) {
  *to = *from = 0;
  for (int d = (int)layout.dimensions - 1; d >= 0; d--) {
    u64 extent = layout.shape[d], index;
    if ((number | extent) >> 32 == 0) { /* a division of 32 bits takes a third of the time */
      index = (u32)number % (u32)extent;
      number = (u32)number / (u32)extent;
    } else {
      index = number % extent;
      number /= extent;
    }
    *to += (i64)index * layout.to_strides[d];
    *from += (i64)index * layout.from_strides[d];
  }
}

extern "C" __global__ void copy_bytes(u64 nbytes, const u8 *from, u8 *to) {
  if ((((u64)from ^ (u64)to) & (PACK_BYTES - 1)) == 0) {
    for_each(to, nbytes, [=](u64 i) { store_pack(to + i, load_pack(from + i)); }, [=](u64 i) { to[i] = from[i]; });
  } else { /* byte by byte from another phase: rows and elements are the caller's better choice where the phase is a word's */
    for (u64 i = thread_number(); i < nbytes; i += thread_count()) to[i] = from[i];
  }
}

/* Rows of `width` units, a block of threads for each row in turn; the unit is the largest that both sides and all strides are aligned to. */
template <typename Unit> __device__ inline void copy_rows(u64 rows, u64 width, const u8 *from, u8 *to, const Layout &layout) {
  u64 pieces = (width + blockDim.x - 1) / blockDim.x; /* of a row: long ones are shared by blocks */
  for (u64 piece = blockIdx.x; piece < rows * pieces; piece += gridDim.x) {
    i64 to_offset, from_offset;
    find_offsets(layout, piece / pieces, &to_offset, &from_offset);
    u64 i = piece % pieces * blockDim.x + threadIdx.x;
    if (i < width) ((Unit *)(to + to_offset))[i] = ((const Unit *)(from + from_offset))[i];
  }
}

template <typename Unit> __device__ inline void copy_elements(u64 n, const u8 *from, u8 *to, const Layout &layout) {
  for (u64 i = thread_number(); i < n; i += thread_count()) {
    i64 to_offset, from_offset;
    find_offsets(layout, i, &to_offset, &from_offset);
    *(Unit *)(to + to_offset) = *(const Unit *)(from + from_offset);
  }
}

#define KERNELS(size, Unit)                                                                                                                   \
  extern "C" __global__ void copy_rows_##size(u64 rows, u64 width, const u8 *from, u8 *to, Layout layout) {                                   \
    copy_rows<Unit>(rows, width, from, to, layout);                                                                                           \
  }                                                                                                                                           \
  extern "C" __global__ void copy_elements_##size(u64 n, const u8 *from, u8 *to, Layout layout) { copy_elements<Unit>(n, from, to, layout); }

KERNELS(1, u8) KERNELS(2, u16) KERNELS(4, u32) KERNELS(8, u64) KERNELS(16, uint4)
