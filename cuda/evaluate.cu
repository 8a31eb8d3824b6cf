/* evaluate.cu - one pass over arrays of n elements: out = an expression of them and of numbers. A kernel for each structure of expression.
 *
 * Python writes the expression in the place of #include "expression.cuh": the type T, how many ARRAYS and NUMBERS there are, and a function
 *
 *     typedef float T;
 *     enum { ARRAYS = 2, NUMBERS = 1 };
 *     __device__ inline Value<T> expression(const Value<T> *x, const Value<T> *s) {
 *       const Value<T> t0 = x[0] * s[0];
 *       const Value<T> t1 = t0 + x[1];
 *       return t1;
 *     }
 *
 * Cost: each element is read and written once; the output always in 16 bytes. `out` may be one of the inputs. Each operation is rounded to
 * the type, as NumPy's are; so it is compiled with -fmad=false, which keeps a product and a sum apart.
 */
#include "common.cuh"

/* A result on the way: an element, in the type that it is computed with. */
template <typename T> struct Value {
  typename Element<T>::Wide wide;
};
template <typename T> __device__ inline Value<T> rounded(typename Element<T>::Wide x) { return {Element<T>::wide(Element<T>::narrow(x))}; }
template <typename T> __device__ inline Value<T> operator+(Value<T> a, Value<T> b) { return rounded<T>(a.wide + b.wide); }
template <typename T> __device__ inline Value<T> operator-(Value<T> a, Value<T> b) { return rounded<T>(a.wide - b.wide); }
template <typename T> __device__ inline Value<T> operator*(Value<T> a, Value<T> b) { return rounded<T>(a.wide * b.wide); }
template <typename T> __device__ inline Value<T> operator/(Value<T> a, Value<T> b) { return rounded<T>(a.wide / b.wide); }
template <typename T> __device__ inline Value<T> operator-(Value<T> a) { return {-a.wide}; }

#include "expression.cuh"

struct Inputs {
  const T *arrays[ARRAYS];
  Value<T> numbers[NUMBERS];
};

extern "C" __global__ void evaluate(u64 n, Inputs inputs, T *out) {
  typedef Element<T> E;
  for_each(
      out, n,
      [&](u64 i) {
        Pack<T> packs[ARRAYS], result;
#pragma unroll
        for (int a = 0; a < ARRAYS; a++) packs[a] = load_pack(inputs.arrays[a] + i);
#pragma unroll
        for (int k = 0; k < (int)(PACK_BYTES / sizeof(T)); k++) {
          Value<T> x[ARRAYS];
#pragma unroll
          for (int a = 0; a < ARRAYS; a++) x[a].wide = E::wide(packs[a].lane[k]);
          result.lane[k] = E::narrow(expression(x, inputs.numbers).wide);
        }
        store_pack(out + i, result);
      },
      [&](u64 i) {
        Value<T> x[ARRAYS];
#pragma unroll
        for (int a = 0; a < ARRAYS; a++) x[a].wide = E::wide(inputs.arrays[a][i]);
        out[i] = E::narrow(expression(x, inputs.numbers).wide);
      });
}
