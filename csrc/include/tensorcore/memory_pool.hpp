// memory_pool.hpp - the pools for C++17: MemoryPool, PooledAllocation, the global pool, exceptions, and a std::pmr::memory_resource.
//
// Two ways to use it, by the same source:
//   linked with libtensorcore                  a program of its own, with a global pool of its own
//   TENSORCORE_USE_CAPI defined before it      a Python extension: the pools of the installed package, nothing to link; the global pool is
//                                              Python's tensorcore.get_global_memory_pool(). Call tensorcore_import() in the module's init
// Header only; what it adds to tensorcore.h is inlined. Every function may be called from any thread. Sizes are bytes, ratios 0..1.
// Limit: a MemoryPool is one handle, so moving it while another thread uses it is a race.
#ifndef TENSORCORE_MEMORY_POOL_HPP
#define TENSORCORE_MEMORY_POOL_HPP

#ifdef TENSORCORE_USE_CAPI
#include "tensorcore_capi.h"
#define TENSORCORE_FLAVOUR capi_1 // the two ways keep their symbols apart, for a process that has both
#else
#include "tensorcore.h"
#define TENSORCORE_FLAVOUR linked_1
#endif

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <forward_list>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#if __has_include(<memory_resource>)
#include <memory_resource>
#endif

namespace tensorcore {
inline namespace TENSORCORE_FLAVOUR {

// ---- exceptions: Python's names, each a standard one too ----------------------------------------------------------------------------

// The limit or the upstream refused, after everything reclaimable was reclaimed. Allocates nothing itself.
class OutOfMemoryError : public std::bad_alloc {
public:
  OutOfMemoryError(std::size_t nbytes, const tc_pool *pool) noexcept : requested(nbytes) {
    tc_stats stats{};
    if (pool != nullptr) {
      tc_pool_stats(pool, &stats);
      limit = tc_pool_limit(pool);
    }
    allocated = stats.allocated.current;
    reserved = stats.reserved.current;
    largest_free_block = stats.largest_free_block;
    std::snprintf(message_, sizeof message_,
                  "%s refused %zu bytes: %llu allocated, %llu reserved, limit %zu (0: none), largest free block %llu; free or trim "
                  "something, or raise the limit",
                  pool != nullptr ? tc_pool_name(pool) : "a new pool", requested, allocated, reserved, limit, largest_free_block);
  }
  const char *what() const noexcept override { return message_; }

  std::size_t requested, limit = 0; // bytes; limit 0: none
  unsigned long long allocated, reserved, largest_free_block;

private:
  char message_[320];
};

// The address is not the start of a block of this pool. Nothing was changed.
class InvalidFreeError : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
// The block at this address is not in use. Nothing was changed.
class DoubleFreeError : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
// The size given is not the size that was asked for. The block is still in use.
class SizeMismatchError : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
// check() found a broken invariant.
class CorruptionError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

[[noreturn]] inline void throw_status(tc_status status, const std::string &what) {
  switch (status) {
  case TC_INVALID_FREE:
    throw InvalidFreeError(what + ": no block of this pool starts there; deallocate what allocate returned, in its own pool");
  case TC_DOUBLE_FREE:
    throw DoubleFreeError(what + ": the block there is not in use; drop the second deallocation");
  case TC_SIZE_MISMATCH:
    throw SizeMismatchError(what + ": it was allocated with another size; give that size or none");
  case TC_CORRUPT:
    throw CorruptionError(what);
  default:
    throw std::runtime_error(what + ": " + tc_status_string(status));
  }
}

[[noreturn]] inline void throw_refused_free(tc_status status, tc_pool *pool, const void *address) {
  char where[32];
  std::snprintf(where, sizeof where, "%p", address);
  throw_status(status, std::string("pool '") + tc_pool_name(pool) + "' refused to deallocate " + where);
}

// What must be there before the first call through the table.
inline void require_import() {
#ifdef TENSORCORE_USE_CAPI
  if (tensorcore_api == nullptr) throw std::logic_error("tensorcore is not imported: call tensorcore_import() in the module's init function");
#endif
}

inline tc_pool *create(const tc_pool_options &options) {
  tc_pool *pool = nullptr;
  tc_status status = tc_pool_create(&options, &pool);
  if (status == TC_OUT_OF_MEMORY) throw OutOfMemoryError(options.initial_capacity, nullptr);
  if (status != TC_OK) throw_status(status, "a pool could not be made");
  return pool;
}

inline tc_pool_options default_options() {
  require_import();
  tc_pool_options options;
  tc_pool_options_init(&options);
  return options;
}

inline tc_pool *global_handle() {
#ifdef TENSORCORE_USE_CAPI
  require_import();
  tc_pool *pool = tensorcore_global_pool();
  if (pool == nullptr) throw std::runtime_error("Python could not make the global pool; sys.unraisablehook was told why");
#else
  static tc_pool *const pool = [] { // never destroyed: blocks may outlive every static object
    tc_pool_options options = default_options();
    options.name = "cpu";
    return create(options);
  }();
#endif
  return pool;
}

} // namespace detail

// ---- pools --------------------------------------------------------------------------------------------------------------------------

// One pool of memory. Blocks that are alive when their pool is destroyed stay valid and can still be freed (tc_free, PooledAllocation).
class MemoryPool {
public:
  // `initial_capacity` bytes are reserved at once, blocks of 64 B, 128 B ... 64 KiB preallocated in them.
  explicit MemoryPool(std::size_t initial_capacity = 0) {
    tc_pool_options options = detail::default_options();
    options.initial_capacity = initial_capacity;
    pool_ = detail::create(options);
  }
  explicit MemoryPool(const tc_pool_options &options) : pool_((detail::require_import(), detail::create(options))) {}
  // A MemoryPool over a pool that somebody else destroys: one of Python's, for instance.
  static MemoryPool view(tc_pool *pool) noexcept { return MemoryPool(pool, false); }

  MemoryPool(MemoryPool &&other) noexcept : pool_(std::exchange(other.pool_, nullptr)), owned_(other.owned_) {}
  MemoryPool &operator=(MemoryPool &&other) noexcept {
    MemoryPool taken(std::move(other)); // leaves with what this one had
    std::swap(pool_, taken.pool_);
    std::swap(owned_, taken.owned_);
    return *this;
  }
  MemoryPool(const MemoryPool &) = delete;
  MemoryPool &operator=(const MemoryPool &) = delete;
  ~MemoryPool() {
    if (owned_ && pool_ != nullptr) tc_pool_destroy(pool_);
  }

  // Aligned to 64 bytes, not initialized; 0 bytes give a distinct block too. Throws OutOfMemoryError.
  [[nodiscard]] void *allocate(std::size_t nbytes) { return checked(tc_pool_alloc(pool_, nbytes), nbytes); }
  // `alignment` is a power of two up to 2 MiB; another one throws std::invalid_argument.
  [[nodiscard]] void *allocate(std::size_t nbytes, std::size_t alignment) {
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > std::size_t{2} << 20)
      throw std::invalid_argument("an alignment is a power of two up to 2 MiB, not " + std::to_string(alignment));
    return checked(tc_pool_alloc_aligned(pool_, nbytes, alignment), nbytes);
  }
  // Throws InvalidFreeError, DoubleFreeError or SizeMismatchError, and then has changed nothing. A null pointer is ignored.
  void deallocate(void *address, std::size_t nbytes) {
    tc_status status = tc_pool_free_sized(pool_, address, nbytes);
    if (status != TC_OK) detail::throw_refused_free(status, pool_, address);
  }
  void deallocate(void *address) {
    tc_status status = tc_pool_free(pool_, address);
    if (status != TC_OK) detail::throw_refused_free(status, pool_, address);
  }

  // Hold at least `capacity` bytes, in total. Throws OutOfMemoryError; what was reserved before stays.
  void reserve(std::size_t capacity) {
    tc_status status = tc_pool_reserve(pool_, capacity);
    if (status == TC_OUT_OF_MEMORY) throw OutOfMemoryError(capacity, pool_);
    if (status != TC_OK) detail::throw_status(status, "memory could not be reserved");
  }
  std::size_t trim(std::size_t keep = 0) { return tc_pool_trim(pool_, keep); } // the bytes that went back
  std::size_t limit() const { return tc_pool_limit(pool_); }                   // 0: none
  std::size_t set_limit(std::size_t nbytes) { return tc_pool_set_limit(pool_, nbytes); } // the old one
  // Call back each time allocated / reserved rises to `utilization`; nullptr: no more.
  void warn_at(double utilization, tc_watermark_callback callback, void *context = nullptr) {
    tc_pool_warn_at(pool_, utilization, callback, context);
  }
  // Walk all metadata; throws CorruptionError.
  void check() const {
    char message[512];
    tc_status status = tc_pool_check(pool_, message, sizeof message);
    if (status != TC_OK) detail::throw_status(status, message);
  }

  tc_stats statistics() const {
    tc_stats stats;
    tc_pool_stats(pool_, &stats);
    return stats;
  }
  std::size_t get_total_allocated() const { return static_cast<std::size_t>(statistics().allocated.current); } // live blocks
  std::size_t get_total_capacity() const { return static_cast<std::size_t>(statistics().reserved.current); }   // held from upstream
  double get_utilization_ratio() const {                                                                       // 0 for an empty pool
    tc_stats stats = statistics();
    return stats.reserved.current == 0 ? 0.0 : static_cast<double>(stats.allocated.current) / static_cast<double>(stats.reserved.current);
  }
  std::size_t get_allocation_count() const { return static_cast<std::size_t>(statistics().allocation_count); }
  std::size_t get_deallocation_count() const { return static_cast<std::size_t>(statistics().deallocation_count); }
  const char *name() const { return tc_pool_name(pool_); }
  tc_pool *handle() const noexcept { return pool_; } // for the functions of tensorcore.h; null after a move

private:
  MemoryPool(tc_pool *pool, bool owned) noexcept : pool_(pool), owned_(owned) {}
  void *checked(void *address, std::size_t nbytes) {
    if (address == nullptr) throw OutOfMemoryError(nbytes, pool_);
    return address;
  }

  tc_pool *pool_ = nullptr;
  bool owned_ = true;
};

// The pool that everything uses where none is named. The reference stays valid; in a Python extension a later call may return another
// pool, where Python has replaced its own.
inline MemoryPool &get_global_memory_pool() {
  static std::mutex lock;
  static auto &views = *new std::forward_list<MemoryPool>; // one for each pool that was the global one; never destroyed
  tc_pool *pool = detail::global_handle();                 // before the lock: it may wait for the GIL
  std::lock_guard<std::mutex> guard(lock);
  for (MemoryPool &view : views)
    if (view.handle() == pool) return view;
  return views.emplace_front(MemoryPool::view(pool));
}

// ---- a block that gives itself back -------------------------------------------------------------------------------------------------

class PooledAllocation {
public:
  PooledAllocation() noexcept = default; // no block
  explicit PooledAllocation(std::size_t nbytes) : PooledAllocation(nbytes, detail::global_handle()) {}
  PooledAllocation(std::size_t nbytes, MemoryPool &pool) : PooledAllocation(nbytes, pool.handle()) {}
  PooledAllocation(MemoryPool &pool, std::size_t nbytes) : PooledAllocation(nbytes, pool.handle()) {}

  PooledAllocation(PooledAllocation &&other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  PooledAllocation &operator=(PooledAllocation &&other) noexcept {
    PooledAllocation taken(std::move(other)); // leaves with what this one had
    std::swap(address_, taken.address_);
    std::swap(size_, taken.size_);
    return *this;
  }
  PooledAllocation(const PooledAllocation &) = delete;
  PooledAllocation &operator=(const PooledAllocation &) = delete;
  ~PooledAllocation() { reset(); }

  void *get() const noexcept { return address_; }         // aligned to 64 bytes
  std::size_t size() const noexcept { return size_; }     // bytes, as requested
  template <class T> T *as() const noexcept { return static_cast<T *>(address_); }
  explicit operator bool() const noexcept { return address_ != nullptr; }

  // Give the block back now.
  void reset() noexcept {
    if (address_ == nullptr) return;
    [[maybe_unused]] tc_status status = tc_free(address_); // a block knows its pool, also one that is destroyed
    assert(status == TC_OK && "somebody else freed the block of a PooledAllocation");
    address_ = nullptr;
    size_ = 0;
  }
  // Hand the block over: whoever takes it frees it.
  [[nodiscard]] void *release() noexcept {
    size_ = 0;
    return std::exchange(address_, nullptr);
  }

private:
  PooledAllocation(std::size_t nbytes, tc_pool *pool) : address_(tc_pool_alloc(pool, nbytes)), size_(nbytes) {
    if (address_ == nullptr) throw OutOfMemoryError(nbytes, pool);
  }

  void *address_ = nullptr;
  std::size_t size_ = 0; // bytes
};

// ---- the standard library's containers ----------------------------------------------------------------------------------------------

#ifdef __cpp_lib_memory_resource
// std::pmr::vector<float> values(&resource). The pool outlives the resource.
class pool_resource : public std::pmr::memory_resource {
public:
  pool_resource() : pool_(get_global_memory_pool()) {}
  explicit pool_resource(MemoryPool &pool) noexcept : pool_(pool) {}
  MemoryPool &pool() const noexcept { return pool_; }

private:
  void *do_allocate(std::size_t nbytes, std::size_t alignment) override {
    return alignment <= TC_ALIGNMENT ? pool_.allocate(nbytes) : pool_.allocate(nbytes, alignment);
  }
  void do_deallocate(void *address, std::size_t nbytes, std::size_t) override { pool_.deallocate(address, nbytes); }
  bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
    auto *resource = dynamic_cast<const pool_resource *>(&other);
    return resource != nullptr && resource->pool_.handle() == pool_.handle();
  }

  MemoryPool &pool_;
};
#endif

} // namespace TENSORCORE_FLAVOUR
} // namespace tensorcore

#undef TENSORCORE_FLAVOUR
#endif // TENSORCORE_MEMORY_POOL_HPP
