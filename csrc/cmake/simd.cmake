# simd_kernels.c, once more for each instruction set beyond the architecture's baseline: a generated file that names the table and
# includes it, compiled with that set's flags. simd_dispatch.c chooses at run time.
include(CheckCCompilerFlag)

# No contraction: a * b + c keeps its two roundings where there is an instruction with one. Division and fma must not set errno.
set(simd_flags -O3 -ffp-contract=off -fno-math-errno)
set_source_files_properties(simd_kernels.c simd_reduce.c PROPERTIES COMPILE_OPTIONS "${simd_flags}")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(avx2 -mavx2 -mfma)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(CMAKE_REQUIRED_QUIET ON)
  check_c_compiler_flag("${avx512}" TENSORCORE_HAS_AVX512)
  if(TENSORCORE_HAS_AVX512)
    foreach(isa avx2 avx512)
      set(source ${CMAKE_CURRENT_BINARY_DIR}/simd_kernels_${isa}.c)
      file(CONFIGURE OUTPUT ${source} CONTENT
           "#define TCI_SIMD_TABLE tci_simd_@isa@\n#define TCI_SIMD_NAME \"@isa@\"\n#include \"simd_kernels.c\"\n" @ONLY)
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${simd_flags};${${isa}}" OBJECT_DEPENDS
                                                                                    ${CMAKE_CURRENT_SOURCE_DIR}/simd_kernels.c)
      target_sources(core PRIVATE ${source})
    endforeach()
    set_source_files_properties(simd_dispatch.c PROPERTIES COMPILE_DEFINITIONS TCI_SIMD_X86)
  endif()
endif()
