/* reduce.cu - sum, dot, min and max of n elements: every block writes one partial result, then one block makes the result of them.
 *
 * The order of additions depends on n, the address's phase and the grid alone, so a repeated call gives the same bits. f32 and f64 add up
 * in double, f16 and bf16 in float. min and max of anything with a NaN are NaN. BLOCK threads a block; n = 0 is the caller's to refuse
 * where there is no neutral element (min, max).
 */
#include "common.cuh"

#define BLOCK 256

struct Add {
  template <typename S> static __device__ S none() { return S(0); }
  template <typename S> static __device__ S join(S a, S b) { return a + b; }
};
struct Least {
  template <typename S> static __device__ S none() { return S(__longlong_as_double(0x7FF0000000000000)); }
  template <typename S> static __device__ S join(S a, S b) { return a != a || a < b ? a : b; } /* b where b is NaN or not above */
};
struct Most {
  template <typename S> static __device__ S none() { return S(__longlong_as_double(0xFFF0000000000000)); }
  template <typename S> static __device__ S join(S a, S b) { return a != a || a > b ? a : b; }
};

/* The block's values joined, pairwise; right in thread 0. */
template <typename Op, typename S> __device__ inline S join_block(S value) {
  __shared__ S values[BLOCK];
  values[threadIdx.x] = value;
  __syncthreads();
  for (u32 half = BLOCK / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) values[threadIdx.x] = Op::join(values[threadIdx.x], values[threadIdx.x + half]);
    __syncthreads();
  }
  return values[0];
}

template <typename Op, typename T> __device__ inline void reduce_one(u64 n, const T *x, typename Element<T>::Sum *partial) {
  typedef Element<T> E;
  typedef typename E::Sum S;
  const int lanes = PACK_BYTES / sizeof(T);
  S sums[lanes]; /* one for each lane: independent additions */
  for (int k = 0; k < lanes; k++) sums[k] = Op::template none<S>();
  for_each(
      x, n,
      [&](u64 i) {
        Pack<T> p = load_pack(x + i);
        for (int k = 0; k < lanes; k++) sums[k] = Op::join(sums[k], (S)E::wide(p.lane[k]));
      },
      [&](u64 i) { sums[0] = Op::join(sums[0], (S)E::wide(x[i])); });
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int k = 0; k < width; k++) sums[k] = Op::join(sums[k], sums[k + width]);
  S all = join_block<Op>(sums[0]);
  if (threadIdx.x == 0) partial[blockIdx.x] = all;
}

template <typename T> __device__ inline void reduce_dot(u64 n, const T *x, const T *y, typename Element<T>::Sum *partial) {
  typedef Element<T> E;
  typedef typename E::Sum S;
  const int lanes = PACK_BYTES / sizeof(T);
  S sums[lanes];
  for (int k = 0; k < lanes; k++) sums[k] = 0;
  for_each(
      x, n,
      [&](u64 i) {
        Pack<T> p = load_pack(x + i), q = load_pack(y + i);
        for (int k = 0; k < lanes; k++) sums[k] += (S)E::wide(p.lane[k]) * (S)E::wide(q.lane[k]);
      },
      [&](u64 i) { sums[0] += (S)E::wide(x[i]) * (S)E::wide(y[i]); });
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int k = 0; k < width; k++) sums[k] += sums[k + width];
  S all = join_block<Add>(sums[0]);
  if (threadIdx.x == 0) partial[blockIdx.x] = all;
}

/* One block. */
template <typename Op, typename T> __device__ inline void finish(u64 count, const typename Element<T>::Sum *partial, T *out) {
  typedef typename Element<T>::Sum S;
  S value = Op::template none<S>();
  for (u64 i = threadIdx.x; i < count; i += BLOCK) value = Op::join(value, partial[i]);
  S all = join_block<Op>(value);
  if (threadIdx.x == 0) *out = Element<T>::finish(all);
}

#define KERNELS(suffix, T)                                                                                                           \
  extern "C" __global__ void sum_##suffix(u64 n, const T *x, Element<T>::Sum *partial) { reduce_one<Add>(n, x, partial); }           \
  extern "C" __global__ void min_##suffix(u64 n, const T *x, Element<T>::Sum *partial) { reduce_one<Least>(n, x, partial); }         \
  extern "C" __global__ void max_##suffix(u64 n, const T *x, Element<T>::Sum *partial) { reduce_one<Most>(n, x, partial); }          \
  extern "C" __global__ void dot_##suffix(u64 n, const T *x, const T *y, Element<T>::Sum *partial) { reduce_dot(n, x, y, partial); } \
  extern "C" __global__ void finish_sum_##suffix(u64 n, const Element<T>::Sum *partial, T *out) { finish<Add>(n, partial, out); }    \
  extern "C" __global__ void finish_min_##suffix(u64 n, const Element<T>::Sum *partial, T *out) { finish<Least>(n, partial, out); }  \
  extern "C" __global__ void finish_max_##suffix(u64 n, const Element<T>::Sum *partial, T *out) { finish<Most>(n, partial, out); }

FOR_EACH_TYPE(KERNELS)
