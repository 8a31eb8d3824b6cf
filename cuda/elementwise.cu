/* elementwise.cu - one pass over arrays of n elements: out = f(inputs). add, subtract, multiply, divide, fma, scale, axpy.
 *
 * Cost: each element is read and written once; the output always in 16 bytes. `out` may be one of the inputs. Rounding is IEEE's, to
 * nearest even; fma and axpy round once (twice for f16 and bf16: in float, then to the type).
 */
#include "common.cuh"

__device__ inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return fma(a, b, c); }

template <typename T, typename F> __device__ inline void map_one(u64 n, const T *x, T *out, F f) {
  typedef Element<T> E;
  for_each(
      out, n,
      [=](u64 i) {
        Pack<T> p = load_pack(x + i), r;
        for (int k = 0; k < (int)(PACK_BYTES / sizeof(T)); k++) r.lane[k] = E::narrow(f(E::wide(p.lane[k])));
        store_pack(out + i, r);
      },
      [=](u64 i) { out[i] = E::narrow(f(E::wide(x[i]))); });
}

template <typename T, typename F> __device__ inline void map_two(u64 n, const T *x, const T *y, T *out, F f) {
  typedef Element<T> E;
  for_each(
      out, n,
      [=](u64 i) {
        Pack<T> p = load_pack(x + i), q = load_pack(y + i), r;
        for (int k = 0; k < (int)(PACK_BYTES / sizeof(T)); k++) r.lane[k] = E::narrow(f(E::wide(p.lane[k]), E::wide(q.lane[k])));
        store_pack(out + i, r);
      },
      [=](u64 i) { out[i] = E::narrow(f(E::wide(x[i]), E::wide(y[i]))); });
}

template <typename T, typename F> __device__ inline void map_three(u64 n, const T *x, const T *y, const T *z, T *out, F f) {
  typedef Element<T> E;
  for_each(
      out, n,
      [=](u64 i) {
        Pack<T> p = load_pack(x + i), q = load_pack(y + i), s = load_pack(z + i), r;
        for (int k = 0; k < (int)(PACK_BYTES / sizeof(T)); k++)
          r.lane[k] = E::narrow(f(E::wide(p.lane[k]), E::wide(q.lane[k]), E::wide(s.lane[k])));
        store_pack(out + i, r);
      },
      [=](u64 i) { out[i] = E::narrow(f(E::wide(x[i]), E::wide(y[i]), E::wide(z[i]))); });
}

#define KERNELS(suffix, T)                                                                                  \
  extern "C" __global__ void add_##suffix(u64 n, const T *x, const T *y, T *out) {                          \
    typedef Element<T>::Wide W;                                                                             \
    map_two(n, x, y, out, [](W a, W b) { return a + b; });                                                  \
  }                                                                                                         \
  extern "C" __global__ void subtract_##suffix(u64 n, const T *x, const T *y, T *out) {                     \
    typedef Element<T>::Wide W;                                                                             \
    map_two(n, x, y, out, [](W a, W b) { return a - b; });                                                  \
  }                                                                                                         \
  extern "C" __global__ void multiply_##suffix(u64 n, const T *x, const T *y, T *out) {                     \
    typedef Element<T>::Wide W;                                                                             \
    map_two(n, x, y, out, [](W a, W b) { return a * b; });                                                  \
  }                                                                                                         \
  extern "C" __global__ void divide_##suffix(u64 n, const T *x, const T *y, T *out) {                       \
    typedef Element<T>::Wide W;                                                                             \
    map_two(n, x, y, out, [](W a, W b) { return a / b; });                                                  \
  }                                                                                                         \
  extern "C" __global__ void fma_##suffix(u64 n, const T *x, const T *y, const T *z, T *out) {              \
    typedef Element<T>::Wide W;                                                                             \
    map_three(n, x, y, z, out, [](W a, W b, W c) { return fused(a, b, c); });                               \
  }                                                                                                         \
  extern "C" __global__ void scale_##suffix(u64 n, Element<T>::Wide alpha, const T *x, T *out) {            \
    typedef Element<T>::Wide W;                                                                             \
    map_one(n, x, out, [=](W a) { return alpha * a; });                                                     \
  }                                                                                                         \
  extern "C" __global__ void axpy_##suffix(u64 n, Element<T>::Wide alpha, const T *x, const T *y, T *out) { \
    typedef Element<T>::Wide W;                                                                             \
    map_two(n, x, y, out, [=](W a, W b) { return fused(alpha, a, b); });                                    \
  }

FOR_EACH_TYPE(KERNELS)
