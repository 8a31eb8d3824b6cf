// test_memory_pool.cpp - the C++ face, as a program linked with libtensorcore and, with TENSORCORE_USE_CAPI, as a Python extension.
//
// The first half is what a user would write first: one function per everyday task. The second half is what may go wrong.
#ifdef TENSORCORE_USE_CAPI
#include <Python.h>
#endif

#include "tensorcore/memory_pool.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <thread>
#include <type_traits>
#include <vector>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

using tensorcore::get_global_memory_pool;
using tensorcore::MemoryPool;
using tensorcore::PooledAllocation;

#define REQUIRE(condition)                                                                                                    \
  do {                                                                                                                        \
    if (!(condition)) throw std::logic_error(std::string(__func__) + ", line " + std::to_string(__LINE__) + ": " #condition); \
  } while (0)

template <class Error, class Action> static std::string message_of(Action action) {
  try {
    action();
  } catch (const Error &error) { return error.what(); }
  throw std::logic_error("the expected exception was not thrown");
}

static bool is_aligned(const void *address, std::size_t alignment) { return reinterpret_cast<std::uintptr_t>(address) % alignment == 0; }

// ---- everyday use -------------------------------------------------------------------------------------------------------------------

static void a_kibibyte_is_allocated_and_deallocated_with_its_size() {
  MemoryPool pool;
  void *ptr = pool.allocate(1024);
  REQUIRE(ptr != nullptr && is_aligned(ptr, 64));
  std::memset(ptr, 1, 1024);
  pool.deallocate(ptr, 1024);
  REQUIRE(pool.get_total_allocated() == 0);
}

static void a_pooled_allocation_gives_its_block_back_at_the_end_of_the_scope() {
  MemoryPool &pool = get_global_memory_pool();
  std::size_t before = pool.get_deallocation_count();
  {
    PooledAllocation allocation(1024);
    std::memset(allocation.get(), 0, allocation.size());
    REQUIRE(allocation.size() == 1024 && tc_pool_of(allocation.get()) == pool.handle());
  }
  REQUIRE(pool.get_deallocation_count() == before + 1);
}

static void the_global_pool_tells_its_figures() {
  auto &pool = get_global_memory_pool();
  std::size_t allocations = pool.get_allocation_count(), deallocations = pool.get_deallocation_count();
  PooledAllocation block(1 << 20);
  REQUIRE(pool.get_total_allocated() >= 1 << 20);
  REQUIRE(pool.get_total_capacity() >= pool.get_total_allocated());
  REQUIRE(pool.get_utilization_ratio() > 0 && pool.get_utilization_ratio() <= 1);
  REQUIRE(pool.get_allocation_count() == allocations + 1 && pool.get_deallocation_count() == deallocations);
  std::cout << "total allocated: " << pool.get_total_allocated() << "\ntotal capacity: " << pool.get_total_capacity()
            << "\nutilization ratio: " << pool.get_utilization_ratio() << "\nallocation count: " << pool.get_allocation_count()
            << "\ndeallocation count: " << pool.get_deallocation_count() << "\n";
}

static void a_pool_of_16_mib_grows_to_32_mib_by_reserve() {
  MemoryPool pool(16 * 1024 * 1024);
  REQUIRE(pool.get_total_capacity() == 16 * 1024 * 1024);
  pool.reserve(32 * 1024 * 1024);
  REQUIRE(pool.get_total_capacity() == 32 * 1024 * 1024);
}

static void the_preallocated_sizes_ask_the_system_for_nothing() {
  MemoryPool pool(16 * 1024 * 1024);
  auto calls = pool.statistics().upstream_calls;
  std::vector<void *> blocks;
  for (std::size_t size = 64; size <= 64 * 1024; size *= 2) blocks.push_back(pool.allocate(size));
  REQUIRE(blocks.size() == 11 && pool.statistics().upstream_calls == calls);
  for (void *block : blocks) pool.deallocate(block);
}

static void a_utilization_above_four_fifths_is_noticed() {
  MemoryPool pool(2 << 20);
  std::atomic<int> warnings{0};
  pool.warn_at(0.8, [](tc_pool *, double, void *count) { ++*static_cast<std::atomic<int> *>(count); }, &warnings);
  std::vector<PooledAllocation> blocks;
  while (pool.get_utilization_ratio() <= 0.8) blocks.emplace_back(64 * 1024, pool);
  if (pool.get_utilization_ratio() > 0.8) std::cout << "warning: memory pool is " << pool.get_utilization_ratio() * 100 << " % full\n";
  REQUIRE(warnings > 0);
}

static void a_thousand_tensors_of_100_by_100_floats_are_timed() {
  MemoryPool &pool = get_global_memory_pool();
  std::size_t before = pool.get_allocation_count();
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    PooledAllocation tensor(100 * 100 * sizeof(float));
    tensor.as<float>()[i] = 1.0F;
  }
  std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
  REQUIRE(pool.get_allocation_count() == before + 1000);
  std::cout << "1000 tensors: " << elapsed.count() << " us\n";
}

static void two_threads_share_a_pool() {
  MemoryPool pool;
  auto work = [&pool](int value) {
    for (int i = 0; i < 1000; ++i) {
      PooledAllocation tensor(100 * 100 * sizeof(float), pool);
      auto *data = tensor.as<float>();
      data[0] = data[9999] = static_cast<float>(value);
      REQUIRE(data[0] == data[9999]);
    }
  };
  std::thread first(work, 1), second(work, 2);
  first.join();
  second.join();
  REQUIRE(pool.get_allocation_count() == 2000 && pool.get_deallocation_count() == 2000);
  pool.check();
}

static void a_block_suits_aligned_simd_loads_and_stores() {
  PooledAllocation input(1024 * sizeof(float)), output(1024 * sizeof(float));
  auto *x = input.as<float>(), *y = output.as<float>();
  REQUIRE(is_aligned(x, 64) && is_aligned(y, 64));
  for (int i = 0; i < 1024; ++i) x[i] = static_cast<float>(i);
#ifdef __SSE__
  for (int i = 0; i < 1024; i += 4) _mm_store_ps(y + i, _mm_add_ps(_mm_load_ps(x + i), _mm_load_ps(x + i))); // trap where misaligned
#else
  for (int i = 0; i < 1024; ++i) y[i] = x[i] + x[i];
#endif
  for (int i = 0; i < 1024; ++i) REQUIRE(y[i] == 2.0F * static_cast<float>(i));
}

// ---- the standard library -----------------------------------------------------------------------------------------------------------

static void standard_containers_live_in_a_pool() {
  MemoryPool pool;
  tensorcore::pool_resource resource(pool), same(pool), global;
  REQUIRE(resource == same && !(resource == global) && global.pool().handle() == get_global_memory_pool().handle());
  {
    std::pmr::vector<double> values(&resource);
    for (int i = 0; i < 10000; ++i) values.push_back(i);
    REQUIRE(tc_pool_of(values.data()) == pool.handle() && values[9999] == 9999);
    std::pmr::map<int, std::pmr::string> names(&resource);
    names[1] = "a string that is too long for the buffer inside it";
    REQUIRE(tc_pool_of(names[1].data()) == pool.handle());
    void *page = resource.allocate(100, 4096);
    REQUIRE(is_aligned(page, 4096));
    resource.deallocate(page, 100, 4096);
  }
  REQUIRE(pool.get_total_allocated() == 0 && pool.get_allocation_count() == pool.get_deallocation_count());
}

// ---- what may go wrong --------------------------------------------------------------------------------------------------------------

static void a_refused_deallocation_throws_and_changes_nothing() {
  MemoryPool pool, other;
  char *block = static_cast<char *>(pool.allocate(1000));
  std::string message = message_of<tensorcore::SizeMismatchError>([&] { pool.deallocate(block, 999); });
  REQUIRE(message.find("another size") != std::string::npos);
  message_of<tensorcore::InvalidFreeError>([&] { pool.deallocate(block + 64); });
  message_of<tensorcore::InvalidFreeError>([&] { other.deallocate(block, 1000); });
  message_of<tensorcore::InvalidFreeError>([&] { pool.deallocate(&pool); });
  REQUIRE(pool.get_total_allocated() >= 1000 && pool.get_deallocation_count() == 0);
  pool.deallocate(block, 1000);
  message_of<tensorcore::DoubleFreeError>([&] { pool.deallocate(block); });
  message_of<std::invalid_argument>([&] { pool.deallocate(block, 1000); });
  pool.deallocate(nullptr);
  REQUIRE(pool.get_deallocation_count() == 1 && pool.statistics().refused_deallocations >= 4);
}

static void running_out_throws_a_bad_alloc_that_tells_the_figures() {
  MemoryPool pool(4 << 20);
  REQUIRE(pool.set_limit(8 << 20) == 0 && pool.limit() == 8 << 20);
  std::size_t free_bytes = 0;
  try {
    (void)pool.allocate(64 << 20);
  } catch (const tensorcore::OutOfMemoryError &error) {
    REQUIRE(error.requested == 64 << 20 && error.limit == 8 << 20 && error.reserved >= error.allocated);
    REQUIRE(std::string(error.what()).find("67108864 bytes") != std::string::npos);
    free_bytes = 1;
  }
  REQUIRE(free_bytes == 1);
  message_of<std::bad_alloc>([&] { PooledAllocation(64 << 20, pool); });
  message_of<std::bad_alloc>([&] { pool.reserve(64 << 20); });
  tensorcore::pool_resource resource(pool);
  message_of<std::bad_alloc>([&] { std::pmr::vector<char>(64 << 20, &resource); });
  tc_pool_options options;
  tc_pool_options_init(&options);
  options.initial_capacity = 2 << 20;
  options.limit = 1 << 20;
  message_of<tensorcore::OutOfMemoryError>([&] { MemoryPool{options}; });
  REQUIRE(pool.get_total_allocated() == 0);
}

static void an_impossible_alignment_is_refused() {
  MemoryPool pool;
  for (std::size_t alignment : {std::size_t{0}, std::size_t{48}, std::size_t{4} << 20})
    message_of<std::invalid_argument>([&] { (void)pool.allocate(64, alignment); });
  void *page = pool.allocate(100, 4096);
  REQUIRE(is_aligned(page, 4096));
  pool.deallocate(page, 100);
}

static void owners_can_be_moved_and_not_copied() {
  static_assert(!std::is_copy_constructible_v<MemoryPool> && !std::is_copy_assignable_v<MemoryPool>);
  static_assert(!std::is_copy_constructible_v<PooledAllocation> && !std::is_copy_assignable_v<PooledAllocation>);
  static_assert(std::is_nothrow_move_constructible_v<MemoryPool> && std::is_nothrow_move_assignable_v<PooledAllocation>);
  MemoryPool first, pool(std::move(first));
  PooledAllocation a(pool, 100), b(200, pool), empty;
  REQUIRE(!empty && empty.size() == 0);
  void *block = b.get();
  a = std::move(b); // the block of `a` goes back at once
  REQUIRE(a.get() == block && a.size() == 200 && !b && pool.get_deallocation_count() == 1);
  PooledAllocation &itself = a;
  a = std::move(itself);
  REQUIRE(a.get() == block && a.size() == 200);
  REQUIRE(a.release() == block && !a);
  pool.deallocate(block, 200);
  first = std::move(pool);
  REQUIRE(first.get_deallocation_count() == 2);
}

static void a_block_outlives_its_pool() {
  PooledAllocation block;
  {
    MemoryPool pool;
    block = PooledAllocation(1 << 20, pool);
  }
  std::memset(block.get(), 7, block.size());
  REQUIRE(block.as<unsigned char>()[block.size() - 1] == 7);
}

static void a_view_does_not_destroy_the_pool() {
  MemoryPool pool;
  { MemoryPool view = MemoryPool::view(pool.handle()); }
  PooledAllocation block(64, pool);
  REQUIRE(pool.trim() == 0 || pool.get_total_capacity() > 0);
}

static void run_all() {
  a_kibibyte_is_allocated_and_deallocated_with_its_size();
  a_pooled_allocation_gives_its_block_back_at_the_end_of_the_scope();
  the_global_pool_tells_its_figures();
  a_pool_of_16_mib_grows_to_32_mib_by_reserve();
  the_preallocated_sizes_ask_the_system_for_nothing();
  a_utilization_above_four_fifths_is_noticed();
  a_thousand_tensors_of_100_by_100_floats_are_timed();
  two_threads_share_a_pool();
  a_block_suits_aligned_simd_loads_and_stores();
  standard_containers_live_in_a_pool();
  a_refused_deallocation_throws_and_changes_nothing();
  running_out_throws_a_bad_alloc_that_tells_the_figures();
  an_impossible_alignment_is_refused();
  owners_can_be_moved_and_not_copied();
  a_block_outlives_its_pool();
  a_view_does_not_destroy_the_pool();
}

const MemoryPool *global_pool_of_the_second_file(); // second_file.cpp

#ifdef TENSORCORE_USE_CAPI

// run() -> the address of the global pool; what failed becomes a RuntimeError.
static PyObject *run(PyObject *, PyObject *) {
  try {
    message_of<std::logic_error>([] { MemoryPool pool; }); // before tensorcore_import()
    if (tensorcore_import() < 0) return nullptr;
    run_all();
    REQUIRE(global_pool_of_the_second_file() == &get_global_memory_pool());
    return PyLong_FromVoidPtr(get_global_memory_pool().handle());
  } catch (const std::exception &error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

// allocate(count): blocks of the global pool, made and dropped by two threads that Python does not know, while Python goes on.
static PyObject *allocate(PyObject *, PyObject *count) {
  long wanted = PyLong_AsLong(count);
  Py_BEGIN_ALLOW_THREADS;
  auto work = [wanted] {
    for (long i = 0; i < wanted; ++i) PooledAllocation(1000).as<char>()[999] = 1;
  };
  std::thread first(work), second(work);
  first.join();
  second.join();
  Py_END_ALLOW_THREADS;
  Py_RETURN_NONE;
}

PyMODINIT_FUNC PyInit_test_memory_pool() {
  static PyMethodDef methods[] = {{"run", run, METH_NOARGS, nullptr}, {"allocate", allocate, METH_O, nullptr}, {nullptr, nullptr, 0, nullptr}};
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "test_memory_pool", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}

#else

int main() {
  try {
    run_all();
    REQUIRE(global_pool_of_the_second_file() == &get_global_memory_pool());
  } catch (const std::exception &error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}

#endif
