// second_file.cpp - the header in a second file of the same program: nothing is defined twice, and there is one global pool.
#ifdef TENSORCORE_USE_CAPI
#include <Python.h>
#endif

#include "tensorcore/memory_pool.hpp"

const tensorcore::MemoryPool *global_pool_of_the_second_file() { return &tensorcore::get_global_memory_pool(); }
