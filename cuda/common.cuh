/* common.cuh - what every kernel file begins with: the element types, 16-byte packs, and the grid-stride loop over them.
 *
 * It includes nothing, so that NVRTC needs no toolkit's headers; `tensorcore.kernels` puts its text in the place of the #include. A kernel's
 * name ends in its element type (add_f32). Half and bfloat16 compute in float: for one operation rounding twice gives what rounding once
 * does, since 24 >= 2 * 11 + 2 bits (Figueroa 1995).
 *
 * Limit: an address must be a multiple of its element's size, as the hardware demands.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};

#ifdef __CUDACC_RTC__
__device__ inline float half_to_float(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ inline u16 float_to_half(float value) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif /* else: whoever compiles it for another machine brings the two conversions */

/* Truncates after adding just below half a unit of the last place kept, and one more where that place is odd: round to nearest even. */
__device__ inline u16 float_to_bfloat(float value) {
  u32 bits = __float_as_uint(value);
  if (value != value) return (u16)(bits >> 16 | 0x40); /* a NaN stays one, quiet */
  return (u16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Of an element type: the type to compute in, the one to add many up in, and the way there and back. */
template <typename T> struct Element {
  typedef T Wide;
  typedef double Sum;
  static __device__ T wide(T x) { return x; }
  static __device__ T narrow(T x) { return x; }
  static __device__ T finish(Sum x) { return (T)x; }
};
template <> struct Element<f16> {
  typedef float Wide;
  typedef float Sum;
  static __device__ float wide(f16 x) { return half_to_float(x.bits); }
  static __device__ f16 narrow(float x) { return f16{float_to_half(x)}; }
  static __device__ f16 finish(float x) { return narrow(x); }
};
template <> struct Element<bf16> {
  typedef float Wide;
  typedef float Sum;
  static __device__ float wide(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
  static __device__ bf16 narrow(float x) { return bf16{float_to_bfloat(x)}; }
  static __device__ bf16 finish(float x) { return narrow(x); }
};

/* ---- packs: what one thread reads or writes at once ----------------------------------------------------------------------------- */

#define PACK_BYTES 16

template <typename T> union Pack {
  uint4 raw;
  T lane[PACK_BYTES / sizeof(T)];
  __device__ Pack() {}
};

__device__ inline bool is_aligned(const void *address) { return ((u64)address & (PACK_BYTES - 1)) == 0; }

/* An input that starts at another phase of 16 bytes than the output is read element by element; all threads take the same way. */
template <typename T> __device__ inline Pack<T> load_pack(const T *from) {
  Pack<T> pack;
  if (is_aligned(from)) {
    pack.raw = *(const uint4 *)from;
  } else {
    for (int i = 0; i < (int)(PACK_BYTES / sizeof(T)); i++) pack.lane[i] = from[i];
  }
  return pack;
}

template <typename T> __device__ inline void store_pack(T *to, const Pack<T> &pack) { *(uint4 *)to = pack.raw; }

/* Where n elements from `start` on split: the elements before the first multiple of 16 bytes, the packs after them, and the rest. */
struct Split {
  u64 head, packs, tail;
};

template <typename T> __device__ inline Split split_packs(const T *start, u64 n) {
  const u64 lanes = PACK_BYTES / sizeof(T);
  u64 head = ((PACK_BYTES - ((u64)start & (PACK_BYTES - 1))) & (PACK_BYTES - 1)) / sizeof(T);
  if (head > n) head = n;
  u64 packs = (n - head) / lanes;
  return Split{head, packs, n - head - packs * lanes};
}

__device__ inline u64 thread_number() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline u64 thread_count() { return (u64)gridDim.x * blockDim.x; }

/* Calls each_pack(i) for the first element of every pack and each_element(i) for every element outside of packs. */
template <typename T, typename EachPack, typename EachElement>
__device__ inline void for_each(const T *start, u64 n, EachPack each_pack, EachElement each_element) {
  const u64 lanes = PACK_BYTES / sizeof(T);
  Split split = split_packs(start, n);
  u64 rest = split.head + split.tail; /* fewer than 2 * lanes: one round of the first block */
  for (u64 i = thread_number(); i < rest; i += thread_count()) each_element(i < split.head ? i : n - split.tail + (i - split.head));
  for (u64 i = thread_number(); i < split.packs; i += thread_count()) each_pack(split.head + i * lanes);
}

#define FOR_EACH_TYPE(KERNELS) KERNELS(f16, f16) KERNELS(bf16, bf16) KERNELS(f32, float) KERNELS(f64, double)
